/* The search kernel of geofix: product-quantized inner products.
 *
 * Plain C with no dependency, for Python (by ctypes), phones and other languages alike. All
 * functions are pure but for the thread-local table that geofix_set_query sets; none allocates.
 *
 * A pq code of a cell holds one entry for each of `num_subspaces` sub-quantizers: with 8 bits a
 * byte each, with 4 bits two to a byte, the even sub-quantizer in the low half.
 *
 * A query is a table of `num_subspaces` x 2^bits inner products, row-major: entry (m, c) is the
 * inner product of the query's part m with centroid c of sub-quantizer m. A cell's score is the
 * sum of the entries that its pq code selects, added in float32 in the order of sub-quantizers.
 */
#ifndef GEOFIX_KERNEL_H
#define GEOFIX_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GEOFIX_KERNEL_VERSION 5

/* Cells of a block, and the most sub-quantizers that geofix_shortlist takes, and centroids that
 * geofix_assign chooses among. */
#define GEOFIX_BLOCK 32
#define GEOFIX_MAX_CENTROIDS 256
#define GEOFIX_MAX_SHORTLIST 512

#if defined(_WIN32)
#define GEOFIX_API __declspec(dllexport)
#else
#define GEOFIX_API __attribute__((visibility("default")))
#endif

/* The version of this interface. Callers refuse another one. */
GEOFIX_API int geofix_kernel_version(void);

/* Score pq codes that lie one behind the other, all of them or some rows.
 *
 *   table     (num_subspaces, 2^bits) float32
 *   bits      4 or 8; with 4, num_subspaces must be even
 *   pq_codes  (rows there are, num_subspaces * bits / 8)
 *   rows      (num_cells), which to score; NULL: the first num_cells
 *   scores    (num_cells), written: of each, the entries of its table rows, added in their order
 */
GEOFIX_API void geofix_scan(const float *table, uint32_t num_subspaces, uint32_t bits,
                            const uint8_t *pq_codes, const int64_t *rows, size_t num_cells,
                            float *scores);

/* Find the cells that can be among the k best, with 4 bits, and score them.
 *
 * The pq codes lie in blocks of GEOFIX_BLOCK cells, each transposed: byte i of the block's cell j
 * stands at i * GEOFIX_BLOCK + j. Blocks may come from any places, in any order, with cells left
 * out: those of all shards at once, or those that lie in some part of the globe.
 *
 * Entries are rounded to 7 bits, so that processors look 16 or 32 of them up at once; what rounding
 * cannot tell from the k-th best stays on the list. So the list holds the k best, and all cells
 * that score as high as the last of them, and some more.
 *
 *   table       (num_subspaces, 16) float32, finite, at most GEOFIX_MAX_SHORTLIST sub-quantizers
 *   blocks      (num_blocks), where each starts
 *   masks       (num_blocks), bit j is set where the block's cell j counts
 *   k           at least 1
 *   rows        written, ascending: cell j of block b is row b * GEOFIX_BLOCK + j. Room for all.
 *   scores      written; as geofix_scan gives them. Room for all.
 *
 * Returns the length of the list.
 */
GEOFIX_API size_t geofix_shortlist(const float *table, uint32_t num_subspaces,
                                   const uint8_t *const *blocks, const uint32_t *masks,
                                   size_t num_blocks, size_t k, uint32_t *rows, float *scores);

/* Which instructions geofix_shortlist uses: "avx2", "neon" or "portable". */
GEOFIX_API const char *geofix_instructions(void);

/* Find which descendants of S2 cells have their centre in a disk.
 *
 *   parents   (num_parents) valid ids, ascending, none inside another; one finer than `level`
 *             counts as a descendant itself
 *   level     of the descendants, 0 to 30
 *   centre    (3) unit vector: x towards latitude 0, longitude 0, z towards the north pole
 *   arc       the radius in radians
 *   limit     the square of its chord, 4 sin^2(arc / 2), or infinity for pi and more: centres as
 *             near belong to the disk. Given apart, so that the caller rounds it.
 *   first     (room) written, ascending: the first leaf of each run of descendants along the curve;
 *             no run goes on from one parent to the next
 *   last      (room) written: the last leaf of each
 *
 * Returns the number of runs; only the first `room` are written.
 */
GEOFIX_API size_t geofix_disk(const uint64_t *parents, size_t num_parents, uint32_t level,
                              const double *centre, double arc, double limit, uint64_t *first,
                              uint64_t *last, size_t room);

/* Choose the centroids of vectors with the score-aware loss, as score_aware.py says it.
 *
 *   vectors     (num_vectors, num_subspaces * part_dim), rotated
 *   directions  the same shape: vectors of unit length, or 0
 *   centroids   (num_subspaces, part_dim, num_centroids): number i of all centroids side by side
 *   squares     (num_subspaces, num_centroids): their inner products with themselves
 *   weight      of the error along a vector: eta - 1
 *   num_sweeps  over the sub-quantizers, after the nearest centroids
 *   chosen      (num_vectors, num_subspaces), written
 */
GEOFIX_API void geofix_assign(const float *vectors, const float *directions, size_t num_vectors,
                              const float *centroids, const float *squares, uint32_t num_subspaces,
                              uint32_t part_dim, uint32_t num_centroids, float weight,
                              uint32_t num_sweeps, uint8_t *chosen);

/* Make `table` the query of the calling thread, for geofix_asymmetric. It must outlive its use. */
GEOFIX_API void geofix_set_query(const float *table, uint32_t num_subspaces, uint32_t bits);

/* A USearch metric (ArrayArray: two vectors, a distance): 1 - score of `stored` for the query of
 * the calling thread. USearch calls metric(query, stored); the first vector is not read. */
GEOFIX_API float geofix_asymmetric(const void *query, const void *stored);

/* Make `centroids` those that geofix_symmetric compares with, for the calling thread.
 *
 *   products  (num_subspaces, 2^bits, 2^bits): inner products of the centroids of each
 *             sub-quantizer among themselves
 */
GEOFIX_API void geofix_set_products(const float *products, uint32_t num_subspaces, uint32_t bits);

/* A USearch metric: 1 - inner product of two stored vectors, for building a graph. */
GEOFIX_API float geofix_symmetric(const void *first, const void *second);

#ifdef __cplusplus
}
#endif

#endif
