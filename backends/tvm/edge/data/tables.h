/* What the generated tables of a model hold, and the calling convention of its kernels (apache-tvm-ffi's, DLPack's tensors). */
#ifndef GRAPHWRIGHT_TABLES_H
#define GRAPHWRIGHT_TABLES_H
#include <stddef.h>
#include <stdint.h>

/* DLTensor */
typedef struct {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    const int64_t *shape;
    const int64_t *strides;
    uint64_t byte_offset;
} gw_dltensor;

/* TVMFFIAny */
enum { GW_INT = 1, GW_FLOAT = 3, GW_TENSOR = 7 };
typedef struct {
    int32_t type;
    uint32_t padding;
    union {
        int64_t integer;
        double number;
        void *pointer;
    } value;
} gw_any;

typedef int (*gw_kernel)(void *self, const gw_any *arguments, int32_t count, gw_any *result);

/* A tensor of weights, or one that lies in the arena from `offset` on. */
typedef struct {
    int is_weight;
    size_t offset;
    int32_t rank;
    uint8_t code, bits;
    const int64_t *shape, *strides;
} gw_tensor;

/* A tensor by its place in gw_tensors (GW_TENSOR), or a number. */
typedef struct {
    int32_t type;
    int64_t integer;
    double number;
} gw_argument;

/* A kernel called with `count` of gw_arguments from `first` on. */
typedef struct {
    gw_kernel kernel;
    int32_t first, count;
} gw_call;

/* An input or output by its place in gw_tensors. */
typedef struct {
    const char *name, *dtype;
    size_t bytes;
    int32_t tensor;
} gw_port;

extern const gw_tensor gw_tensors[];
extern const gw_argument gw_arguments[];
extern const gw_call gw_calls[];
extern const gw_port gw_inputs[], gw_outputs[];
extern const int32_t gw_tensor_count, gw_argument_count, gw_call_count, gw_input_count, gw_output_count;
extern const size_t gw_arena_bytes;
extern const unsigned char gw_weights[];
#endif
