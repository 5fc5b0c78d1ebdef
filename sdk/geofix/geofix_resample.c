/* See geofix_resample.h. Whole boxes of pixels are averaged, then up to four boxes on each axis
 * mixed; the rows of boxes are made when they are needed, and four of them kept.
 *
 * Averages are fixed-point numbers of 15 bits, 7 of them behind the point, and weights have 14:
 * products of both fit into 32 bits, and the picture is rounded to whole grey levels once only. */
#include "geofix_resample.h"

#include <stdlib.h>
#include <string.h>

/* GEOFIX_PORTABLE leaves the processor's own instructions out, to test what runs without them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(GEOFIX_PORTABLE)
#define USE_AVX2
#define AVX2 __attribute__((target("avx2")))
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

#define TAPS 4            /* boxes that a pixel of the result is mixed from, on each axis */
#define FRACTION_BITS 7   /* of an average */
#define WEIGHT_BITS 14    /* weights of a pixel add up to 2^14 */
#define ROWS_AT_ONCE 256  /* whose sums fit into 16 bits */
#define LANES 4           /* numbers that an average of colours takes: the fourth is not used */

/* One axis: `factor` pixels make a box, `num_boxes` boxes the picture. */
typedef struct {
    size_t size, result_size, factor, num_boxes;
} Axis;

typedef struct {
    size_t start; /* the first box */
    int16_t weights[TAPS];
} Mix;

/* A picture whose rows are read byte by byte: `step` bytes a pixel, `channels` of them used. */
typedef struct {
    const uint8_t *first; /* of the bytes of row 0 */
    ptrdiff_t row_stride, pixel_stride, channel_stride;
    size_t width, height, step, channels;
    int is_packed, is_reversed;
} Picture;

int geofix_resample_version(void) { return GEOFIX_RESAMPLE_VERSION; }

static Axis axis_of(size_t size, size_t result_size) {
    size_t factor = size > result_size ? size / result_size : 1;
    Axis axis = {size, result_size, factor, (size + factor - 1) / factor};
    return axis;
}

/* The weights of a triangle over the boxes, as wide as a pixel of the result or a box, whichever is
 * wider. Distances count in units of 1 / (2 factor result_size) boxes, which makes them whole. */
static Mix mix_of(const Axis *axis, size_t i) {
    int64_t box = (int64_t)(axis->factor * axis->result_size), size = (int64_t)axis->size;
    int64_t centre = (2 * (int64_t)i + 1) * size, reach = 2 * (box > size ? box : size);
    int64_t from = centre - reach + box, heights[TAPS] = {0}, total = 0;
    int left = 1 << WEIGHT_BITS, highest = 0;
    Mix mix = {from > 0 ? (size_t)(from / (2 * box)) : 0, {0}};
    for (int t = 0; t < TAPS && mix.start + (size_t)t < axis->num_boxes; ++t) {
        int64_t away = (2 * (int64_t)mix.start + 2 * t + 1) * box - centre;
        int64_t height = reach - (away < 0 ? -away : away);
        heights[t] = height > 0 ? height : 0;
        total += heights[t];
        highest = heights[t] > heights[highest] ? t : highest;
    }
    for (int t = 0; t < TAPS; ++t) {
        int64_t scaled = (heights[t] << (WEIGHT_BITS + 1)) + total;
        mix.weights[t] = (int16_t)(scaled / (2 * total));
        left -= mix.weights[t];
    }
    mix.weights[highest] = (int16_t)(mix.weights[highest] + left);
    return mix;
}

/* sums[i] = the bytes i of `num` rows, added up */
INLINE void sum_rows(uint16_t *restrict sums, const uint8_t *rows, ptrdiff_t stride, size_t num,
                     size_t num_bytes) {
    uint16_t kept = 0; /* nothing of what was in `sums` before; then everything */
    for (; num >= 4; num -= 4, rows += 4 * stride, kept = 0xffff) {
        const uint8_t *a = rows, *b = a + stride, *c = b + stride, *d = c + stride;
        for (size_t i = 0; i < num_bytes; ++i)
            sums[i] = (uint16_t)((sums[i] & kept) + (a[i] + b[i]) + (c[i] + d[i]));
    }
    for (; num > 0; --num, rows += stride, kept = 0xffff)
        for (size_t i = 0; i < num_bytes; ++i) sums[i] = (uint16_t)((sums[i] & kept) + rows[i]);
}

/* boxes[k] += the sums of the columns of box k, for each channel */
INLINE void add_columns(uint32_t *restrict boxes, const uint16_t *restrict sums, const Axis *across,
                        size_t step, size_t lanes) {
    for (size_t k = 0; k < across->num_boxes; ++k) {
        size_t end = (k + 1) * across->factor;
        const uint16_t *last = sums + (end < across->size ? end : across->size) * step;
        const uint16_t *at = sums + k * across->factor * step;
        uint32_t all[LANES] = {0}, others[LANES] = {0}; /* which do not wait for each other */
        for (; lanes > 1 && at + step < last; at += 2 * step)
            for (size_t c = 0; c < lanes; ++c) {
                all[c] += at[c];
                others[c] += at[step + c];
            }
        for (; at < last; at += step)
            for (size_t c = 0; c < lanes; ++c) all[c] += at[c];
        for (size_t c = 0; c < lanes; ++c) boxes[k * lanes + c] += all[c] + others[c];
    }
}

#if defined(__GNUC__)
#define PAIRS 257 /* pixels whose sum fits into 16 bits */

typedef uint16_t Eight __attribute__((vector_size(16), aligned(2), may_alias));

/* As add_columns, of small boxes in colour: two columns at once, in sums of 16 bits. */
INLINE void add_pairs(uint32_t *restrict boxes, const uint16_t *restrict sums, const Axis *across,
                      size_t step) {
    for (size_t k = 0; k < across->num_boxes; ++k) {
        size_t end = (k + 1) * across->factor;
        const uint16_t *last = sums + (end < across->size ? end : across->size) * step;
        const uint16_t *at = sums + k * across->factor * step;
        Eight pairs = {0}, others = {0}; /* which do not wait for each other */
        for (; at + 3 * step < last; at += 4 * step) {
            pairs += *(const Eight *)at;
            others += *(const Eight *)(at + 2 * step);
        }
        for (; at + step < last; at += 2 * step) pairs += *(const Eight *)at;
        pairs += others;
        for (size_t c = 0; c < 3; ++c)
            boxes[k * LANES + c] += pairs[c] + pairs[step + c] + (at < last ? at[c] : 0u);
    }
}
#endif

/* Divide sums of `num_pixels` pixels, rounding halves up: floor((2^8 sum + n) / (2 n)).
 *
 * The numerator is below 2^40, so it is exact in float64, and half a unit more keeps the quotient
 * 2^-25 away from the whole numbers; it is off by less than 2^-36. */
INLINE void divide(int16_t *restrict means, const uint32_t *restrict sums, size_t num,
                   size_t num_pixels) {
    double inverse = 0.5 / (double)num_pixels, half = (double)num_pixels + 0.5;
    for (size_t i = 0; i < num; ++i) {
        double scaled = (double)(int32_t)sums[i] * (2 << FRACTION_BITS);
        means[i] = (int16_t)(int32_t)((scaled + half) * inverse);
    }
}

INLINE void mix_rows(int16_t *restrict mixed, int16_t *const rows[TAPS], const int16_t *weights,
                     size_t num) {
    const int16_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    int32_t p = weights[0], q = weights[1], r = weights[2], s = weights[3];
    for (size_t i = 0; i < num; ++i) {
        int32_t sum = p * a[i] + q * b[i] + r * c[i] + s * d[i];
        mixed[i] = (int16_t)((sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS);
    }
}

INLINE void mix_columns(uint8_t *restrict result, const int16_t *restrict mixed, const Mix *mixes,
                        size_t num, size_t lanes, int is_reversed) {
    const int shift = FRACTION_BITS + WEIGHT_BITS;
    for (size_t i = 0; i < num; ++i) {
        const int16_t *at = mixed + mixes[i].start * lanes, *w = mixes[i].weights;
        int32_t sums[LANES];
        for (size_t c = 0; c < lanes; ++c)
            sums[c] = w[0] * at[c] + w[1] * at[lanes + c] + w[2] * at[2 * lanes + c] +
                      w[3] * at[3 * lanes + c];
        for (size_t c = 0; c < 3; ++c) {
            int32_t sum = lanes == 1 ? sums[0] : sums[is_reversed ? 2 - c : c];
            result[3 * i + c] = (uint8_t)((sum + (1 << (shift - 1))) >> shift);
        }
    }
}

/* What a call works in. */
typedef struct {
    uint8_t *gathered; /* a row, where the picture is not packed */
    uint16_t *columns; /* sums of bytes */
    uint32_t *boxes;   /* sums of pixels */
    int16_t *rows[TAPS], *mixed;
    Mix *across;
} Room;

static const uint8_t *gather_row(uint8_t *row, const Picture *picture, size_t y) {
    const uint8_t *pixel = picture->first + (ptrdiff_t)y * picture->row_stride;
    uint8_t *byte = row;
    for (size_t x = 0; x < picture->width; ++x, pixel += picture->pixel_stride)
        for (size_t c = 0; c < picture->channels; ++c)
            *byte++ = pixel[(ptrdiff_t)c * picture->channel_stride];
    return row;
}

/* Average the row `k` of boxes into `means`. */
INLINE void make_boxes(int16_t *means, const Picture *picture, const Axis *across, const Axis *down,
                       size_t k, const Room *room, size_t step, size_t lanes) {
    size_t y = k * down->factor, end = y + down->factor, num = across->num_boxes;
    size_t num_bytes = (across->size - 1) * step + picture->channels;
    end = end < down->size ? end : down->size;
    size_t num_rows = end - y, last = across->size - (num - 1) * across->factor;
    memset(room->boxes, 0, num * lanes * sizeof *room->boxes);
    while (y < end) {
        size_t rows = end - y < ROWS_AT_ONCE ? end - y : ROWS_AT_ONCE;
        const uint8_t *first = picture->first + (ptrdiff_t)y * picture->row_stride;
        if (!picture->is_packed) {
            first = gather_row(room->gathered, picture, y);
            rows = 1;
        }
        sum_rows(room->columns, first, picture->row_stride, rows, num_bytes);
#if defined(__GNUC__)
        if (lanes == LANES && rows * across->factor <= PAIRS)
            add_pairs(room->boxes, room->columns, across, step);
        else
#endif
            add_columns(room->boxes, room->columns, across, step, lanes);
        y += rows;
    }
    divide(means, room->boxes, (num - 1) * lanes, num_rows * across->factor);
    divide(means + (num - 1) * lanes, room->boxes + (num - 1) * lanes, lanes, num_rows * last);
}

INLINE void run(const Picture *picture, const Axis *across, const Axis *down, const Room *room,
                uint8_t *result, size_t step, size_t lanes) {
    size_t num_made = 0;
    for (size_t i = 0; i < across->result_size; ++i) room->across[i] = mix_of(across, i);
    for (size_t y = 0; y < down->result_size; ++y) {
        Mix mix = mix_of(down, y);
        int16_t *rows[TAPS];
        for (size_t t = 0; t < TAPS; ++t) {
            size_t k = mix.start + t;
            if (mix.weights[t] != 0)
                for (; num_made <= k; ++num_made)
                    make_boxes(room->rows[num_made % TAPS], picture, across, down, num_made, room,
                               step, lanes);
            rows[t] = room->rows[k % TAPS];
        }
        mix_rows(room->mixed, rows, mix.weights, across->num_boxes * lanes);
        mix_columns(result + 3 * y * across->result_size, room->mixed, room->across,
                    across->result_size, lanes, picture->is_reversed);
    }
}

/* Compiled once for each layout, so that loops over channels unroll. */
INLINE void run_any(const Picture *picture, const Axis *across, const Axis *down, const Room *room,
                    uint8_t *result) {
    if (picture->channels == 1) run(picture, across, down, room, result, 1, 1);
    else if (picture->step == 3) run(picture, across, down, room, result, 3, LANES);
    else run(picture, across, down, room, result, 4, LANES);
}

typedef void Run(const Picture *picture, const Axis *across, const Axis *down, const Room *room,
                 uint8_t *result);

static void run_portable(const Picture *picture, const Axis *across, const Axis *down,
                         const Room *room, uint8_t *result) {
    run_any(picture, across, down, room, result);
}

#if defined(USE_AVX2)
AVX2 static void run_avx2(const Picture *picture, const Axis *across, const Axis *down,
                          const Room *room, uint8_t *result) {
    run_any(picture, across, down, room, result);
}

static Run *best_run(void) {
    return __builtin_cpu_supports("avx2") ? run_avx2 : run_portable;
}
#else
static Run *best_run(void) { return run_portable; }
#endif

const char *geofix_resample_instructions(void) {
    return best_run() == run_portable ? "portable" : "avx2";
}

static Picture picture_of(const uint8_t *pixels, size_t width, size_t height, ptrdiff_t row_stride,
                          ptrdiff_t pixel_stride, ptrdiff_t channel_stride) {
    Picture picture = {pixels, row_stride, pixel_stride, channel_stride, width, height, 3, 3, 0, 0};
    int is_colour = channel_stride == 1 || channel_stride == -1;
    if (channel_stride == 0) {
        picture.step = picture.channels = 1;
        picture.is_packed = pixel_stride == 1;
    } else if (is_colour && (pixel_stride == 3 || pixel_stride == 4)) {
        picture.step = (size_t)pixel_stride;
        picture.is_packed = 1;
        picture.is_reversed = channel_stride < 0;
        picture.first = channel_stride < 0 ? pixels - 2 : pixels;
    }
    return picture;
}

/* Return what lies `*at` bytes into the memory, and move `*at` behind it. */
static void *part_of(char *memory, size_t *at, size_t num_bytes) {
    void *part = memory == NULL ? NULL : memory + *at;
    *at += (num_bytes + 63) / 64 * 64;
    return part;
}

/* Lay the parts of a room out behind each other in the memory; return how long they are.
 *
 * Rows are longer than the picture: weights of 0 reach beyond its end, and four numbers are read
 * where three are used. */
static size_t lay_out(Room *room, char *memory, const Picture *picture, const Axis *across) {
    size_t at = 0, num_bytes = across->size * picture->step + LANES;
    size_t num_means = (across->num_boxes + TAPS) * (picture->channels == 1 ? 1 : LANES);
    room->across = part_of(memory, &at, across->result_size * sizeof *room->across);
    room->boxes = part_of(memory, &at, num_means * sizeof *room->boxes);
    room->columns = part_of(memory, &at, num_bytes * sizeof *room->columns);
    for (int t = 0; t < TAPS; ++t)
        room->rows[t] = part_of(memory, &at, num_means * sizeof *room->rows[t]);
    room->mixed = part_of(memory, &at, num_means * sizeof *room->mixed);
    room->gathered = part_of(memory, &at, picture->is_packed ? 0 : num_bytes);
    return at;
}

int geofix_resample(const uint8_t *pixels, size_t width, size_t height, ptrdiff_t row_stride,
                    ptrdiff_t pixel_stride, ptrdiff_t channel_stride, size_t result_width,
                    size_t result_height, uint8_t *result) {
    if (!width || !height || !result_width || !result_height) return -1;
    if (width > GEOFIX_RESAMPLE_MAX_SIDE || height > GEOFIX_RESAMPLE_MAX_SIDE) return -1;
    if (result_width > GEOFIX_RESAMPLE_MAX_RESULT || result_height > GEOFIX_RESAMPLE_MAX_RESULT)
        return -1;
    Axis across = axis_of(width, result_width), down = axis_of(height, result_height);
    if (across.factor > GEOFIX_RESAMPLE_MAX_BOX / down.factor) return -1;
    Picture picture =
        picture_of(pixels, width, height, row_stride, pixel_stride, channel_stride);
    Room room;
    char *memory = calloc(1, lay_out(&room, NULL, &picture, &across));
    if (memory == NULL) return -2;
    lay_out(&room, memory, &picture, &across);
    best_run()(&picture, &across, &down, &room, result);
    free(memory);
    return 0;
}
