/* Checks geofix_shortlist against plain sums and geofix_disk against one look at each cell, on
 * whatever processor this was compiled for.
 *
 * Prints the instructions that ran; exits with 1 at the first wrong list. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "geofix_kernel.h"

enum { MAX_CELLS = 3000, MAX_SUBSPACES = 96, NUM_ROUNDS = 400 };
enum { MAX_BLOCKS = MAX_CELLS / GEOFIX_BLOCK + 1 };

static uint64_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static int descending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static float plain_score(const float *table, uint32_t num_subspaces, const uint8_t *code) {
    float sum = 0.0f;
    for (uint32_t m = 0; m < num_subspaces; ++m)
        sum += table[m * 16 + (m % 2 ? code[m / 2] >> 4 : code[m / 2] & 15)];
    return sum;
}

static const char *check_round(void) {
    static uint8_t blocks[(MAX_CELLS + GEOFIX_BLOCK) * MAX_SUBSPACES / 2];
    static float table[MAX_SUBSPACES * 16], wanted[MAX_CELLS], sorted[MAX_CELLS];
    static float scores[MAX_CELLS + GEOFIX_BLOCK];
    static uint32_t rows[MAX_CELLS + GEOFIX_BLOCK], masks[MAX_BLOCKS];
    uint8_t *starts[MAX_BLOCKS];
    uint32_t num_subspaces = 2 + 2 * draw(MAX_SUBSPACES / 2 - 1), num_bytes = num_subspaces / 2;
    uint32_t num_cells = 1 + draw(MAX_CELLS), left_out = draw(3);
    uint32_t num_blocks = (num_cells + GEOFIX_BLOCK - 1) / GEOFIX_BLOCK;
    size_t num_counting = 0;
    float spread = draw(4) ? 1.0f : 1e-3f;
    for (uint32_t i = 0; i < num_subspaces * 16; ++i)
        table[i] = spread * ((float)draw(2001) - 1000.0f) / 1000.0f;
    memset(blocks, 0xff, sizeof blocks);
    memset(masks, 0, sizeof masks);
    for (uint32_t b = 0; b < num_blocks; ++b) starts[b] = blocks + b * num_bytes * GEOFIX_BLOCK;
    for (uint32_t n = 0; n < num_cells; ++n) {
        uint8_t code[MAX_SUBSPACES / 2], *column = starts[n / GEOFIX_BLOCK] + n % GEOFIX_BLOCK;
        for (uint32_t i = 0; i < num_bytes; ++i)
            column[i * GEOFIX_BLOCK] = code[i] = (uint8_t)draw(256);
        wanted[n] = plain_score(table, num_subspaces, code);
        if (n && left_out && draw(left_out + 1)) continue;
        masks[n / GEOFIX_BLOCK] |= 1u << n % GEOFIX_BLOCK;
        sorted[num_counting++] = wanted[n];
    }
    size_t k = 1 + draw(40 < num_counting ? 40 : (uint32_t)num_counting);
    size_t num = geofix_shortlist(table, num_subspaces, (const uint8_t *const *)starts, masks, num_blocks, k, rows, scores);
    qsort(sorted, num_counting, sizeof *sorted, descending);
    size_t reaching = 0, listed = 0;
    for (size_t i = 0; i < num_counting; ++i) reaching += sorted[i] >= sorted[k - 1];
    for (size_t i = 0; i < num; ++i) {
        if (rows[i] >= num_cells || (i && rows[i] <= rows[i - 1])) return "rows do not ascend";
        if (!(masks[rows[i] / GEOFIX_BLOCK] >> rows[i] % GEOFIX_BLOCK & 1)) return "left out";
        if (scores[i] != wanted[rows[i]]) return "a score is wrong";
        listed += scores[i] >= sorted[k - 1];
    }
    return listed == reaching ? NULL : "one of the best is missing";
}

/* Whether a cell alone has its centre in a disk. */
static int is_in_disk(uint64_t cell, uint32_t level, const double *centre, double arc,
                      double limit) {
    return geofix_disk(&cell, 1, level, centre, arc, limit, NULL, NULL, 0) == 1;
}

/* Squares of chords from a point to cells' centres, to the last bit as the NumPy twin has them. */
static const char *check_centres(void) {
    static const struct {
        uint64_t id;
        uint32_t level;
        double chord2;
    } cells[] = {
        {0x10000eee90000000, 16, 0x1.9a2ec49fc57cfp-1},
        {0x307e640d50000000, 16, 0x1.5f2f5f37a15aep+1},
        {0x4555f69464000000, 17, 0x1.667b18e7b4fd4p-1},
        {0x70199744c0000000, 15, 0x1.a048a615e1757p+1},
        {0x9400000000000000, 1, 0x1.339e0ee9fd959p+0},
        {0xb007a33d46d909e5, 30, 0x1.9f34ac1810712p+1},
        {0x3ffffffffffff000, 24, 0x1.1f576b43c8ef9p+0},
        {0x47900a0090000000, 16, 0x1.678834046aa15p-2},
        {0x1000000000000000, 0, 0x1.999999999999ap-1}};
    const double point[3] = {0.6, -0.48, 0.64};
    for (size_t n = 0; n < sizeof cells / sizeof *cells; ++n) {
        double limit = cells[n].chord2, below = nextafter(limit, 0);
        if (!is_in_disk(cells[n].id, cells[n].level, point, 1, limit)) return "a centre is too far";
        if (is_in_disk(cells[n].id, cells[n].level, point, 1, below)) return "a centre is too near";
    }
    return NULL;
}

/* A disk over one parent against one look at each cell. */
static const char *check_disk(void) {
    enum { DEPTH = 5, NUM = 1 << 2 * DEPTH, PARENT_LEVEL = 11, LEVEL = PARENT_LEVEL + DEPTH };
    static uint64_t first[NUM], last[NUM];
    uint64_t parent = 0x479aa40000000000, step = (uint64_t)2 << 2 * (30 - LEVEL); /* near Zurich */
    double place[3] = {0.669 + draw(100) * 1e-5, 0.1006 + draw(100) * 1e-5, 0.7357}, length = 0;
    for (int i = 0; i < 3; ++i) length += place[i] * place[i];
    for (int i = 0; i < 3; ++i) place[i] /= sqrt(length);
    double arc = 1e-6 * (1 + draw(3000)), limit = 4 * sin(arc / 2) * sin(arc / 2);
    size_t num = geofix_disk(&parent, 1, LEVEL, place, arc, limit, first, last, NUM), run = 0;
    uint64_t cell = parent - ((uint64_t)1 << 2 * (30 - PARENT_LEVEL)) + step / 2;
    for (int n = 0; n < NUM; ++n, cell += step) {
        while (run < num && last[run] < cell) ++run;
        int listed = run < num && first[run] <= cell;
        if (listed != is_in_disk(cell, LEVEL, place, arc, limit)) return "a disk is wrong";
    }
    return NULL;
}

int main(void) {
    const char *fault = check_centres();
    if (fault) {
        printf("%s\n", fault);
        return 1;
    }
    for (int round = 0; round < NUM_ROUNDS; ++round) {
        fault = check_round();
        if (!fault) fault = check_disk();
        if (fault) {
            printf("round %d: %s\n", round, fault);
            return 1;
        }
    }
    printf("%s\n", geofix_instructions());
    return 0;
}
