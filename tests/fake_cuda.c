/* CUDA's driver on the host's memory, for tests: "GPU addresses" are pointers that malloc gave.
 *
 * Stricter than the real one where a mistake would otherwise show on a device alone: memory and
 * stream want a current context, copies back to the host happen when the stream is waited for, and
 * what was not freed is counted. Environment: FAKE_CUDA_FAIL names a function that fails with 2,
 * FAKE_CUDA_NAME, FAKE_CUDA_SM (87) and FAKE_CUDA_DRIVER (12060) describe the GPU. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_VALUE = 1, MAX_COPIES = 64 };

typedef struct {
    void *to;
    const void *from;
    size_t size;
} Copy;

static int primary, stream; /* their addresses are the handles */
static long live;           /* contexts, streams and pieces of memory not yet given back */
static Copy waiting[MAX_COPIES];
static int num_waiting;
static _Thread_local int depth; /* of the stack of current contexts */

#define FAILS(name)                                                                               \
    do {                                                                                          \
        const char *failing = getenv("FAKE_CUDA_FAIL");                                           \
        if (failing && strcmp(failing, name) == 0) return OUT_OF_MEMORY;                          \
    } while (0)

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

long fake_live(void) { return live; }
int fake_depth(void) { return depth; }
void *fake_stream(void) { return &stream; }

int cuInit(unsigned flags) {
    FAILS("cuInit");
    return flags ? INVALID_VALUE : OK;
}

int cuDriverGetVersion(int *version) {
    FAILS("cuDriverGetVersion");
    *version = number("FAKE_CUDA_DRIVER", 12060);
    return OK;
}

int cuGetErrorString(int status, const char **text) {
    *text = status == OUT_OF_MEMORY ? "out of memory" : "invalid";
    return OK;
}

int cuDeviceGet(int *device, int ordinal) {
    FAILS("cuDeviceGet");
    *device = 5 + ordinal;
    return OK;
}

int cuDeviceGetName(char *name, int size, int device) {
    FAILS("cuDeviceGetName");
    const char *given = getenv("FAKE_CUDA_NAME");
    if (device != 5 || size < 64) return INVALID_VALUE;
    strncpy(name, given ? given : "Orin", (size_t)size - 1);
    return OK;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    FAILS("cuDeviceGetAttribute");
    int sm = number("FAKE_CUDA_SM", 87);
    if (device != 5 || attribute < 75 || attribute > 76) return INVALID_VALUE;
    *value = attribute == 75 ? sm / 10 : sm % 10;
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    FAILS("cuDevicePrimaryCtxRetain");
    if (device != 5) return INVALID_VALUE;
    *context = &primary;
    live++;
    return OK;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    live--;
    return device == 5 ? OK : INVALID_VALUE;
}

int cuCtxPushCurrent_v2(void *context) {
    FAILS("cuCtxPushCurrent_v2");
    if (context != &primary) return INVALID_VALUE;
    depth++;
    return OK;
}

int cuCtxPopCurrent_v2(void **context) {
    if (!depth) return INVALID_CONTEXT;
    *context = &primary;
    depth--;
    return OK;
}

int cuStreamCreate(void **created, unsigned flags) {
    FAILS("cuStreamCreate");
    if (!depth || flags != 1) return INVALID_CONTEXT;
    *created = &stream;
    live++;
    return OK;
}

int cuStreamSynchronize(void *given) {
    FAILS("cuStreamSynchronize");
    if (!depth || given != &stream) return INVALID_CONTEXT;
    for (int i = 0; i < num_waiting; i++) memcpy(waiting[i].to, waiting[i].from, waiting[i].size);
    num_waiting = 0;
    return OK;
}

int cuStreamDestroy_v2(void *given) {
    if (!depth || given != &stream) return INVALID_CONTEXT;
    num_waiting = 0;
    live--;
    return OK;
}

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    FAILS("cuMemAlloc_v2");
    if (!depth) return INVALID_CONTEXT;
    *address = (uint64_t)(uintptr_t)malloc(size);
    live++;
    return OK;
}

int cuMemFree_v2(uint64_t address) {
    if (!depth) return INVALID_CONTEXT;
    free((void *)(uintptr_t)address);
    live--;
    return OK;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *given) {
    FAILS("cuMemcpyHtoDAsync_v2");
    if (!depth || given != &stream) return INVALID_CONTEXT;
    memcpy((void *)(uintptr_t)to, from, size);
    return OK;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *given) {
    FAILS("cuMemcpyDtoHAsync_v2");
    if (!depth || given != &stream || num_waiting == MAX_COPIES) return INVALID_CONTEXT;
    waiting[num_waiting++] = (Copy){to, (const void *)(uintptr_t)from, size};
    return OK;
}
