/* See geofix_kernel.h. Sums run in the order of sub-quantizers, as in the NumPy reference. */
#include "geofix_kernel.h"

#include <math.h>
#include <string.h>

/* Rounding must be that of the NumPy reference: no fused multiply-add. GCC's -std=c11 says so. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* GEOFIX_PORTABLE leaves the processor's own instructions out, to test what runs without them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(GEOFIX_PORTABLE)
#define USE_AVX2
#include <immintrin.h>
#elif defined(__aarch64__) && !defined(GEOFIX_PORTABLE)
#define USE_NEON
#include <arm_neon.h>
#endif

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

#define AT_ONCE 8 /* cells, whose sums do not wait for each other */

/* As score8 for each of the cells: additions of one cell stay in their order. */
static void score8_at_once(const float *table, uint32_t num_subspaces,
                           const uint8_t *const *codes, float *scores) {
    float sums[AT_ONCE] = {0.0f};
    for (uint32_t m = 0; m < num_subspaces; ++m, table += 256)
        for (int c = 0; c < AT_ONCE; ++c) sums[c] += table[codes[c][m]];
    memcpy(scores, sums, sizeof sums);
}

void geofix_scan(const float *table, uint32_t num_subspaces, uint32_t bits,
                 const uint8_t *pq_codes, const int64_t *rows, size_t num_cells, float *scores) {
    size_t stride = (size_t)num_subspaces * bits / 8, i = 0;
    if (bits == 8)
        for (; i + AT_ONCE <= num_cells; i += AT_ONCE) {
            const uint8_t *codes[AT_ONCE];
            for (size_t c = 0; c < AT_ONCE; ++c)
                codes[c] = pq_codes + (rows ? (size_t)rows[i + c] : i + c) * stride;
            score8_at_once(table, num_subspaces, codes, scores + i);
        }
    for (; i < num_cells; ++i) {
        const uint8_t *code = pq_codes + (rows ? (size_t)rows[i] : i) * stride;
        scores[i] = bits == 8 ? score8(table, num_subspaces, code)
                              : score4(table, num_subspaces, code);
    }
}

/* `column` points to the first byte of a cell in a block. */
static float score_in_block(const float *table, uint32_t num_subspaces, const uint8_t *column) {
    float sum = 0.0f;
    for (uint32_t m = 0; m < num_subspaces; m += 2, column += GEOFIX_BLOCK) {
        sum += table[(size_t)m * 16 + (*column & 15)];
        sum += table[(size_t)m * 16 + 16 + (*column >> 4)];
    }
    return sum;
}

/* A table in bytes. An entry lies between `step` times its byte and one step more, above a base
 * that all cells share; so sums of bytes order cells up to `slack`. */
typedef struct {
    uint8_t entries[GEOFIX_MAX_SHORTLIST * 16];
    uint32_t num_columns;
    uint32_t slack;
} ByteTable;

#define MOST 127 /* two entries fit into a byte */

static void round_table(const float *table, uint32_t num_subspaces, ByteTable *bytes) {
    float lowest[GEOFIX_MAX_SHORTLIST], widest = 0.0f, largest = 0.0f;
    for (uint32_t m = 0; m < num_subspaces; ++m) {
        const float *row = table + (size_t)m * 16;
        float low = row[0], high = row[0];
        for (int c = 1; c < 16; ++c) {
            low = row[c] < low ? row[c] : low;
            high = row[c] > high ? row[c] : high;
        }
        lowest[m] = low;
        widest = high - low > widest ? high - low : widest;
        largest = fmaxf(largest, fmaxf(fabsf(low), fabsf(high)));
    }
    float step = widest > 0.0f ? widest / MOST : 1.0f;
    for (uint32_t m = 0; m < num_subspaces; ++m)
        for (int c = 0; c < 16; ++c) {
            float entry = (table[(size_t)m * 16 + c] - lowest[m]) / step;
            bytes->entries[m * 16 + c] = (uint8_t)(entry < MOST ? entry : MOST);
        }
    bytes->num_columns = num_subspaces / 2;
    /* Each entry was rounded down by less than a step. Scores are sums in float32, off by less than
     * 2^-23 of the largest partial sum at each addition; and so are the entries above. */
    double rounding = (double)num_subspaces * (num_subspaces + 2) * largest / step * 0x1p-23;
    int is_sound = step < INFINITY && rounding < 60000;
    bytes->slack = is_sound ? num_subspaces + 2 + (uint32_t)rounding : 0xffff;
}

/* Sum the entries of a block's cells; return whether any sum is `threshold` or more. */
typedef int SumBlock(const ByteTable *table, const uint8_t *block, uint16_t threshold,
                     uint16_t *sums);

#if defined(USE_AVX2)
#define BEST_SUM_BLOCK sum_block_avx2
#define AHEAD 2048 /* bytes that are fetched before they are summed: saves a tenth of the time */

__attribute__((target("avx2"))) static int sum_block_avx2(const ByteTable *table,
                                                          const uint8_t *block, uint16_t threshold,
                                                          uint16_t *sums) {
    const __m256i low_half = _mm256_set1_epi8(15);
    const __m128i *entries = (const __m128i *)table->entries;
    __m256i all = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
    for (uint32_t i = 0; i < table->num_columns; ++i) {
        const uint8_t *column = block + (size_t)i * GEOFIX_BLOCK;
        __m256i pairs = _mm256_loadu_si256((const __m256i *)column);
        _mm_prefetch((const char *)column + AHEAD, _MM_HINT_T0);
        __m256i first = _mm256_broadcastsi128_si256(_mm_loadu_si128(entries + 2 * i));
        __m256i second = _mm256_broadcastsi128_si256(_mm_loadu_si128(entries + 2 * i + 1));
        __m256i low = _mm256_and_si256(pairs, low_half);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low_half);
        __m256i both = _mm256_add_epi8(_mm256_shuffle_epi8(first, low),
                                       _mm256_shuffle_epi8(second, high));
        /* Sums of 16 bits: `all` also adds the odd cells' bytes, 256 times, taken away below. */
        all = _mm256_add_epi16(all, both);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(both, 8));
    }
    __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8));
    __m256i least = _mm256_set1_epi16((short)threshold);
    __m256i enough = _mm256_or_si256(_mm256_cmpeq_epi16(_mm256_max_epu16(even, least), even),
                                     _mm256_cmpeq_epi16(_mm256_max_epu16(odd, least), odd));
    if (_mm256_testz_si256(enough, enough)) return 0;
    __m256i left = _mm256_unpacklo_epi16(even, odd), right = _mm256_unpackhi_epi16(even, odd);
    _mm256_storeu_si256((__m256i *)sums, _mm256_permute2x128_si256(left, right, 0x20));
    _mm256_storeu_si256((__m256i *)(sums + 16), _mm256_permute2x128_si256(left, right, 0x31));
    return 1;
}

static int has_best(void) { return __builtin_cpu_supports("avx2"); }
static const char *const best_name = "avx2";

#elif defined(USE_NEON)
#define BEST_SUM_BLOCK sum_block_neon

static int sum_block_neon(const ByteTable *table, const uint8_t *block, uint16_t threshold,
                          uint16_t *sums) {
    const uint8x16_t low_half = vdupq_n_u8(15);
    uint16x8_t sum[4] = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0)};
    for (uint32_t i = 0; i < table->num_columns; ++i) {
        uint8x16_t first = vld1q_u8(table->entries + 32 * i);
        uint8x16_t second = vld1q_u8(table->entries + 32 * i + 16);
        for (int half = 0; half < 2; ++half) {
            uint8x16_t pairs = vld1q_u8(block + (size_t)i * GEOFIX_BLOCK + 16 * half);
            uint8x16_t both = vaddq_u8(vqtbl1q_u8(first, vandq_u8(pairs, low_half)),
                                       vqtbl1q_u8(second, vshrq_n_u8(pairs, 4)));
            sum[2 * half] = vaddw_u8(sum[2 * half], vget_low_u8(both));
            sum[2 * half + 1] = vaddw_high_u8(sum[2 * half + 1], both);
        }
    }
    uint16x8_t highest = vmaxq_u16(vmaxq_u16(sum[0], sum[1]), vmaxq_u16(sum[2], sum[3]));
    if (vmaxvq_u16(highest) < threshold) return 0;
    for (int part = 0; part < 4; ++part) vst1q_u16(sums + 8 * part, sum[part]);
    return 1;
}

static int has_best(void) { return 1; }
static const char *const best_name = "neon";
#else
#define BEST_SUM_BLOCK sum_block_portable

static int has_best(void) { return 0; }
static const char *const best_name = "portable";
#endif

static int sum_block_portable(const ByteTable *table, const uint8_t *block, uint16_t threshold,
                              uint16_t *sums) {
    int found = 0;
    memset(sums, 0, GEOFIX_BLOCK * sizeof *sums);
    for (uint32_t i = 0; i < table->num_columns; ++i) {
        const uint8_t *first = table->entries + (size_t)32 * i, *second = first + 16;
        for (int j = 0; j < GEOFIX_BLOCK; ++j) {
            uint8_t pair = block[(size_t)i * GEOFIX_BLOCK + j];
            sums[j] = (uint16_t)(sums[j] + first[pair & 15] + second[pair >> 4]);
        }
    }
    for (int j = 0; j < GEOFIX_BLOCK; ++j) found |= sums[j] >= threshold;
    return found;
}

const char *geofix_instructions(void) { return has_best() ? best_name : "portable"; }

/* Return the k-th largest of whole numbers below 2^16; num is at least k. */
static uint32_t kth_largest(const float *sums, size_t num, size_t k) {
    uint32_t high = 0, low;
    size_t counts[256] = {0};
    for (size_t i = 0; i < num; ++i) ++counts[(uint32_t)sums[i] >> 8];
    for (high = 255; counts[high] < k; --high) k -= counts[high];
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < num; ++i)
        if ((uint32_t)sums[i] >> 8 == high) ++counts[(uint32_t)sums[i] & 255];
    for (low = 255; counts[low] < k; --low) k -= counts[low];
    return high << 8 | low;
}

/* Drop the cells that k others are sure to beat; return how many stay, and set the threshold. */
static size_t shorten(uint32_t *rows, float *sums, size_t num, size_t k, uint32_t slack,
                      uint16_t *threshold) {
    uint32_t least = kth_largest(sums, num, k);
    *threshold = (uint16_t)(least > slack ? least - slack : 0);
    size_t stay = 0;
    for (size_t i = 0; i < num; ++i)
        if (sums[i] >= *threshold) {
            rows[stay] = rows[i];
            sums[stay++] = sums[i];
        }
    return stay;
}

size_t geofix_shortlist(const float *table, uint32_t num_subspaces, const uint8_t *const *blocks,
                        const uint32_t *masks, size_t num_blocks, size_t k, uint32_t *rows,
                        float *scores) {
    ByteTable bytes;
    round_table(table, num_subspaces, &bytes);
    SumBlock *sum_block = has_best() ? BEST_SUM_BLOCK : sum_block_portable;
    size_t num = 0, limit = 2 * k + 64;
    uint16_t threshold = 0, sums[GEOFIX_BLOCK];
    for (size_t b = 0; b < num_blocks; ++b) {
        if (!sum_block(&bytes, blocks[b], threshold, sums)) continue;
        for (uint32_t j = 0; j < GEOFIX_BLOCK; ++j)
            if (sums[j] >= threshold && masks[b] >> j & 1) {
                rows[num] = (uint32_t)b * GEOFIX_BLOCK + j;
                scores[num++] = sums[j];
            }
        if (num >= limit) {
            num = shorten(rows, scores, num, k, bytes.slack, &threshold);
            limit = 2 * num > limit ? 2 * num : limit;
        }
    }
    if (num > k) num = shorten(rows, scores, num, k, bytes.slack, &threshold);
    for (size_t i = 0; i < num; ++i)
        scores[i] = score_in_block(table, num_subspaces,
                                   blocks[rows[i] / GEOFIX_BLOCK] + rows[i] % GEOFIX_BLOCK);
    return num;
}

/* The Hilbert curve of S2: where its four quarters lie, i * 2 + j, and how each turns it. */
enum { SWAP = 1, INVERT = 2 };
static const uint8_t quarter_at[4][4] = {{0, 1, 3, 2}, {0, 2, 3, 1}, {3, 2, 0, 1}, {3, 1, 0, 2}};
static const uint8_t turned_by[4] = {SWAP, 0, 0, INVERT | SWAP};
enum { FACE_SHIFT = 61, MAX_LEVEL = 30 };

/* A cell of S2: its place on a face of the cube, in units of its own size, and the curve in it. */
typedef struct {
    uint64_t id, i, j;
    unsigned face, turn, level;
} Cell;

static Cell child(Cell cell, unsigned quarter) {
    uint64_t bit = (uint64_t)1 << 2 * (MAX_LEVEL - cell.level), place = quarter_at[cell.turn][quarter];
    return (Cell){cell.id - bit + (2 * quarter + 1) * (bit >> 2), cell.i << 1 | place >> 1,
                  cell.j << 1 | (place & 1), cell.face, cell.turn ^ turned_by[quarter],
                  cell.level + 1};
}

static Cell cell_from_id(uint64_t id) {
    unsigned face = (unsigned)(id >> FACE_SHIFT);
    Cell cell = {((uint64_t)2 * face + 1) << (FACE_SHIFT - 1), 0, 0, face, face & SWAP, 0};
    for (int shift = FACE_SHIFT - 2; cell.id != id && shift >= 0; shift -= 2)
        cell = child(cell, id >> shift & 3);
    return cell;
}

/* S2's quadratic projection. */
static double uv_from_st(double s) {
    return s >= 0.5 ? (4 * s * s - 1) / 3 : (1 - 4 * (1 - s) * (1 - s)) / 3;
}

/* The square of the chord between a cell's centre and a point, as the NumPy twin rounds it. */
static double chord2_to_centre(const Cell *cell, const double *point) {
    double size = ldexp(1.0, -(int)cell->level), sum = 0.0;
    double u = uv_from_st(((double)cell->i + 0.5) * size);
    double v = uv_from_st(((double)cell->j + 0.5) * size), length = sqrt(1 + u * u + v * v);
    const double faces[6][3] = {{1, u, v},    {-u, 1, v},  {-u, -v, 1},
                                {-1, -v, -u}, {v, -1, -u}, {v, u, -1}};
    for (int axis = 0; axis < 3; ++axis) {
        double gap = faces[cell->face][axis] / length - point[axis];
        sum += gap * gap;
    }
    return sum;
}

static double chord2_from_arc(double arc) {
    double half = 2 * sin(arc / 2);
    return arc < 0 ? -1.0 : arc < 3.14159265358979 ? half * half : INFINITY;
}

typedef struct {
    const double *centre;
    double outside[MAX_LEVEL + 1], inside[MAX_LEVEL + 1]; /* chord2 of cells that are sure to be */
    double limit;
    unsigned level;
    uint64_t *first, *last;
    size_t room, num, parent_from; /* of runs; before this parent there were so many */
} Disk;

static void add_run(Disk *disk, uint64_t first, uint64_t last) {
    size_t n = disk->num;
    if (n > disk->parent_from && n <= disk->room && disk->last[n - 1] + 2 == first) {
        disk->last[n - 1] = last;
        return;
    }
    if (n < disk->room) {
        disk->first[n] = first;
        disk->last[n] = last;
    }
    ++disk->num;
}

static void add_cells(Disk *disk, Cell cell) {
    double chord2 = chord2_to_centre(&cell, disk->centre);
    int is_finest = cell.level >= disk->level;
    if (is_finest ? chord2 > disk->limit : chord2 > disk->outside[cell.level]) return;
    if (is_finest || chord2 <= disk->inside[cell.level]) {
        uint64_t reach = ((uint64_t)1 << 2 * (MAX_LEVEL - cell.level)) - 1;
        add_run(disk, cell.id - reach, cell.id + reach);
    } else {
        for (unsigned quarter = 0; quarter < 4; ++quarter) add_cells(disk, child(cell, quarter));
    }
}

/* Half the longest diagonal of a cell of level 0, and 2 % more: see region.py. */
#define REACH 1.2437138431613564
#define ROUNDING 2e-7 /* more than arcs are off by between antipodes */

size_t geofix_disk(const uint64_t *parents, size_t num_parents, uint32_t level,
                   const double *centre, double arc, double limit, uint64_t *first, uint64_t *last,
                   size_t room) {
    Disk disk = {.centre = centre, .limit = limit, .level = level,
                 .first = first, .last = last, .room = room};
    for (int n = 0; n <= MAX_LEVEL; ++n) {
        double margin = ldexp(REACH, -n) + ROUNDING;
        disk.outside[n] = chord2_from_arc(arc + margin);
        disk.inside[n] = chord2_from_arc(arc - margin);
    }
    for (size_t n = 0; n < num_parents; ++n) {
        disk.parent_from = disk.num;
        add_cells(&disk, cell_from_id(parents[n]));
    }
    return disk.num;
}

/* Scores that a cell's part can get: see score_aware.py, whose sums these are, in the same order. */
static float dot(const float *a, const float *b, uint32_t num) {
    float sum = a[0] * b[0];
    for (uint32_t i = 1; i < num; ++i) sum += a[i] * b[i];
    return sum;
}

/* The centroid's numbers lie `step` apart. */
static float error_along(const float *along, const float *part, const float *centroid, size_t step,
                         uint32_t num) {
    float sum = along[0] * (part[0] - centroid[0]);
    for (uint32_t i = 1; i < num; ++i) sum += along[i] * (part[i] - centroid[i * step]);
    return sum;
}

/* Inner products of all centroids with a vector's part: the same order of additions for each, side
 * by side for the processor. */
static void dots(const float *columns, const float *part, uint32_t part_dim, uint32_t num_centroids,
                 float *sums) {
    for (uint32_t c = 0; c < num_centroids; ++c) sums[c] = columns[c] * part[0];
    for (uint32_t i = 1; i < part_dim; ++i) {
        columns += num_centroids;
        for (uint32_t c = 0; c < num_centroids; ++c) sums[c] += columns[c] * part[i];
    }
}

static uint32_t least_loss(const float *part, const float *along, const float *columns,
                           const float *squares, uint32_t num_centroids, uint32_t part_dim,
                           float if_zero, float weight) {
    float loss[GEOFIX_MAX_CENTROIDS], error[GEOFIX_MAX_CENTROIDS];
    dots(columns, part, part_dim, num_centroids, loss);
    for (uint32_t c = 0; c < num_centroids; ++c) loss[c] = squares[c] - 2 * loss[c];
    if (weight > 0.0f) {
        dots(columns, along, part_dim, num_centroids, error);
        for (uint32_t c = 0; c < num_centroids; ++c) {
            float gap = if_zero - error[c];
            loss[c] += weight * (gap * gap);
        }
    }
    uint32_t best = 0;
    for (uint32_t c = 1; c < num_centroids; ++c)
        if (loss[c] < loss[best]) best = c;
    return best;
}

void geofix_assign(const float *vectors, const float *directions, size_t num_vectors,
                   const float *centroids, const float *squares, uint32_t num_subspaces,
                   uint32_t part_dim, uint32_t num_centroids, float weight, uint32_t num_sweeps,
                   uint8_t *chosen) {
    size_t book = (size_t)num_centroids * part_dim;
    for (size_t n = 0; n < num_vectors; ++n) {
        float error = 0.0f; /* along the vector, of all parts that have a centroid */
        for (uint32_t sweep = 0; sweep <= num_sweeps; ++sweep)
            for (uint32_t m = 0; m < num_subspaces; ++m) {
                const float *part = vectors + (n * num_subspaces + m) * part_dim;
                const float *along = directions + (n * num_subspaces + m) * part_dim;
                const float *columns = centroids + m * book, *own = squares + m * (book / part_dim);
                uint8_t *choice = chosen + n * num_subspaces + m;
                float left = error, if_zero = 0.0f;
                if (sweep) {
                    left -= error_along(along, part, columns + *choice, num_centroids, part_dim);
                    if_zero = left + dot(along, part, part_dim);
                }
                *choice = (uint8_t)least_loss(part, along, columns, own, num_centroids, part_dim,
                                              if_zero, sweep ? weight : 0.0f);
                error = left + error_along(along, part, columns + *choice, num_centroids, part_dim);
            }
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
