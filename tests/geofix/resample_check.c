/* Resamples a picture that comes from the standard input, on whatever processor this was compiled
 * for: four numbers and RGB bytes in, RGB bytes out. Its argument says which strides to use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "geofix_resample.h"

int main(int argc, char **argv) {
    unsigned width, height, result_width, result_height;
    if (argc != 2 || scanf("%u %u %u %u", &width, &height, &result_width, &result_height) != 4)
        return 2;
    getchar(); /* the end of the line */
    size_t num = (size_t)width * height, step = strcmp(argv[1], "four") ? 3 : 4;
    size_t num_result = 3 * (size_t)result_width * result_height;
    uint8_t *pixels = calloc(num, step), *result = malloc(num_result);
    for (size_t i = 0; i < num; ++i)
        if (fread(pixels + i * step, 1, 3, stdin) != 3) return 3;
    int is_far = !strcmp(argv[1], "far"); /* each other column: nothing is packed */
    ptrdiff_t pixel_stride = (ptrdiff_t)(is_far ? 2 * step : step);
    int status = geofix_resample(pixels, is_far ? (width + 1) / 2 : width, height,
                                 (ptrdiff_t)(width * step), pixel_stride, 1, result_width,
                                 result_height, result);
    if (status != 0) return 4;
    fprintf(stderr, "%s", geofix_resample_instructions());
    fwrite(result, 1, num_result, stdout);
    free(pixels);
    free(result);
    return 0;
}
