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

#define GEOFIX_KERNEL_VERSION 1

#if defined(_WIN32)
#define GEOFIX_API __declspec(dllexport)
#else
#define GEOFIX_API __attribute__((visibility("default")))
#endif

/* The version of this interface. Callers refuse another one. */
GEOFIX_API int geofix_kernel_version(void);

/* Score `num_cells` pq codes that lie one behind the other.
 *
 *   table     (num_subspaces, 2^bits) float32
 *   bits      4 or 8; with 4, num_subspaces must be even
 *   pq_codes  (num_cells, num_subspaces * bits / 8)
 *   scores    (num_cells), written
 */
GEOFIX_API void geofix_scan(const float *table, uint32_t num_subspaces, uint32_t bits,
                            const uint8_t *pq_codes, size_t num_cells, float *scores);

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
