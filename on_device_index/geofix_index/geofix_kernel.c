/* See geofix_kernel.h. Sums run in the order of sub-quantizers, as in the NumPy reference. */
#include "geofix_kernel.h"

#if defined(_MSC_VER)
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL _Thread_local
#endif

typedef struct {
    const float *values;
    uint32_t num_subspaces;
    uint32_t bits;
} Table;

static THREAD_LOCAL Table query_table;
static THREAD_LOCAL Table product_table;

int geofix_kernel_version(void) { return GEOFIX_KERNEL_VERSION; }

static float score8(const float *table, uint32_t num_subspaces, const uint8_t *code) {
    float sum = 0.0f;
    for (uint32_t m = 0; m < num_subspaces; ++m) sum += table[(size_t)m * 256 + code[m]];
    return sum;
}

static float score4(const float *table, uint32_t num_subspaces, const uint8_t *code) {
    float sum = 0.0f;
    for (uint32_t m = 0; m < num_subspaces; m += 2) {
        uint8_t pair = code[m / 2];
        sum += table[(size_t)m * 16 + (pair & 15)];
        sum += table[(size_t)m * 16 + 16 + (pair >> 4)];
    }
    return sum;
}

void geofix_scan(const float *table, uint32_t num_subspaces, uint32_t bits,
                 const uint8_t *pq_codes, size_t num_cells, float *scores) {
    if (bits == 8) {
        for (size_t i = 0; i < num_cells; ++i)
            scores[i] = score8(table, num_subspaces, pq_codes + i * num_subspaces);
    } else {
        size_t stride = num_subspaces / 2;
        for (size_t i = 0; i < num_cells; ++i)
            scores[i] = score4(table, num_subspaces, pq_codes + i * stride);
    }
}

void geofix_set_query(const float *table, uint32_t num_subspaces, uint32_t bits) {
    query_table = (Table){table, num_subspaces, bits};
}

float geofix_asymmetric(const void *query, const void *stored) {
    (void)query;
    const Table *t = &query_table;
    return 1.0f - (t->bits == 8 ? score8(t->values, t->num_subspaces, stored)
                                : score4(t->values, t->num_subspaces, stored));
}

void geofix_set_products(const float *products, uint32_t num_subspaces, uint32_t bits) {
    product_table = (Table){products, num_subspaces, bits};
}

float geofix_symmetric(const void *first, const void *second) {
    const Table *t = &product_table;
    const uint8_t *a = first, *b = second;
    float sum = 0.0f;
    if (t->bits == 8) {
        for (uint32_t m = 0; m < t->num_subspaces; ++m)
            sum += t->values[((size_t)m * 256 + a[m]) * 256 + b[m]];
    } else {
        for (uint32_t m = 0; m < t->num_subspaces; m += 2) {
            uint8_t x = a[m / 2], y = b[m / 2];
            sum += t->values[((size_t)m * 16 + (x & 15)) * 16 + (y & 15)];
            sum += t->values[((size_t)(m + 1) * 16 + (x >> 4)) * 16 + (y >> 4)];
        }
    }
    return 1.0f - sum;
}
