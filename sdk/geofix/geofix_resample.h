/* The resampling of geofix: what an encoder sees of a picture. docs/pack_spec.md defines it.
 *
 * Plain C with no dependency, for Python (by ctypes), phones and other languages alike. All
 * arithmetic is that of integers (a division through float64 is proved exact), so every processor
 * and compiler gives the same bytes, and so does the NumPy twin in resample.py.
 */
#ifndef GEOFIX_RESAMPLE_H
#define GEOFIX_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GEOFIX_RESAMPLE_VERSION 1

/* The largest side of a picture and of a result, and the most pixels that are averaged into one. */
#define GEOFIX_RESAMPLE_MAX_SIDE (1 << 28)
#define GEOFIX_RESAMPLE_MAX_RESULT (1 << 16)
#define GEOFIX_RESAMPLE_MAX_BOX (1 << 23)

#if defined(_WIN32)
#define GEOFIX_RESAMPLE_API __declspec(dllexport)
#else
#define GEOFIX_RESAMPLE_API __attribute__((visibility("default")))
#endif

/* The version of this interface. Callers refuse another one. */
GEOFIX_RESAMPLE_API int geofix_resample_version(void);

/* Which instructions geofix_resample uses: "avx2" or "portable" (which NEON compilers vectorize). */
GEOFIX_RESAMPLE_API const char *geofix_resample_instructions(void);

/* Bring a picture to another size.
 *
 * The picture lies anywhere: a frame, a part of one, upside down, RGB, BGR or gray. Strides are in
 * bytes, of any sign. With a channel stride of 1 or -1 and a pixel stride of 3 or 4, or a channel
 * stride of 0 (gray) and a pixel stride of 1, pictures are read several bytes at once.
 *
 *   pixels          the first channel of the pixel at the upper left
 *   row_stride      from a pixel to the one below
 *   pixel_stride    from a pixel to the one on its right
 *   channel_stride  from a channel of a pixel to the next: 1 for RGB; -1 for BGR, `pixels` then
 *                   points to red, the third byte; 0 for gray
 *   result          (result_height, result_width, 3), written
 *
 * Returns 0; -1 where a size is 0 or above the limits here, -2 where there is no memory for some
 * rows (70 bytes for each column of the picture, at most).
 */
GEOFIX_RESAMPLE_API int geofix_resample(const uint8_t *pixels, size_t width, size_t height,
                                        ptrdiff_t row_stride, ptrdiff_t pixel_stride,
                                        ptrdiff_t channel_stride, size_t result_width,
                                        size_t result_height, uint8_t *result);

#ifdef __cplusplus
}
#endif

#endif
