/* Checks geofix_shortlist against plain sums, on whatever processor this was compiled for.
 *
 * Prints the instructions that ran; exits with 1 at the first wrong list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "geofix_kernel.h"

enum { MAX_CELLS = 1200, MAX_SUBSPACES = 96, NUM_SHARDS = 3, NUM_ROUNDS = 300 };

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
    static uint8_t blocks[NUM_SHARDS][(MAX_CELLS + GEOFIX_BLOCK) * MAX_SUBSPACES / 2];
    static float table[MAX_SUBSPACES * 16], wanted[NUM_SHARDS * MAX_CELLS];
    static float sorted[NUM_SHARDS * MAX_CELLS], scores[NUM_SHARDS * MAX_CELLS];
    static uint32_t rows[NUM_SHARDS * MAX_CELLS];
    const uint8_t *starts[NUM_SHARDS];
    uint32_t num_cells[NUM_SHARDS], total = 0;
    uint32_t num_subspaces = 2 + 2 * draw(MAX_SUBSPACES / 2 - 1), num_bytes = num_subspaces / 2;
    float spread = draw(4) ? 1.0f : 1e-3f;
    for (uint32_t i = 0; i < num_subspaces * 16; ++i)
        table[i] = spread * ((float)draw(2001) - 1000.0f) / 1000.0f;
    for (int s = 0; s < NUM_SHARDS; ++s) {
        memset(blocks[s], 0xff, sizeof blocks[s]);
        num_cells[s] = 1 + draw(MAX_CELLS);
        starts[s] = blocks[s];
        for (uint32_t n = 0; n < num_cells[s]; ++n) {
            uint8_t code[MAX_SUBSPACES / 2];
            for (uint32_t i = 0; i < num_bytes; ++i) {
                size_t column = (size_t)(n / GEOFIX_BLOCK) * num_bytes + i;
                code[i] = (uint8_t)draw(256);
                blocks[s][column * GEOFIX_BLOCK + n % GEOFIX_BLOCK] = code[i];
            }
            wanted[total++] = plain_score(table, num_subspaces, code);
        }
    }
    size_t k = 1 + draw(40 < total ? 40 : total);
    size_t num = geofix_shortlist(table, num_subspaces, starts, num_cells, NUM_SHARDS, k, rows,
                                  scores);
    memcpy(sorted, wanted, total * sizeof *wanted);
    qsort(sorted, total, sizeof *sorted, descending);
    size_t reaching = 0, listed = 0;
    for (uint32_t i = 0; i < total; ++i) reaching += wanted[i] >= sorted[k - 1];
    for (size_t i = 0; i < num; ++i) {
        if (rows[i] >= total || (i && rows[i] <= rows[i - 1])) return "rows do not ascend";
        if (scores[i] != wanted[rows[i]]) return "a score is wrong";
        listed += scores[i] >= sorted[k - 1];
    }
    return listed == reaching ? NULL : "one of the best is missing";
}

int main(void) {
    for (int round = 0; round < NUM_ROUNDS; ++round) {
        const char *fault = check_round();
        if (fault) {
            printf("round %d: %s\n", round, fault);
            return 1;
        }
    }
    printf("%s\n", geofix_instructions());
    return 0;
}
