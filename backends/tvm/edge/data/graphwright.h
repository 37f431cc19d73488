/* A compiled model of fixed shapes: write into the memory of its inputs, run it, read the memory of its outputs.

       graphwright_model *model = graphwright_open(1);
       memcpy(graphwright_inputs(model)[0].data, image, graphwright_inputs(model)[0].bytes);
       if (graphwright_run(model)) puts(graphwright_error());
       const float *scores = graphwright_outputs(model)[0].data;
       graphwright_close(model);

   Models may run in several threads at once, each opened of its own; one model must not. */
#ifndef GRAPHWRIGHT_H
#define GRAPHWRIGHT_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct graphwright_model graphwright_model;

/* An input or output. `dtype` is numpy's code ("<f4"), `data` is aligned to 64 bytes and stays where it is until the model is closed. */
typedef struct {
    const char *name;
    const char *dtype;
    int64_t rank;
    const int64_t *shape;
    size_t bytes;
    void *data;
} graphwright_port;

/* The model, with its memory and `threads` threads (at least 1; the caller's is one of them); NULL when there is not enough memory. */
graphwright_model *graphwright_open(int threads);
/* Ports end with one whose name is NULL. An input keeps what was written until something else is written. */
const graphwright_port *graphwright_inputs(const graphwright_model *model);
const graphwright_port *graphwright_outputs(const graphwright_model *model);
/* Compute the outputs; 0, or -1 and `graphwright_error` says why. */
int graphwright_run(graphwright_model *model);
/* What went wrong last. */
const char *graphwright_error(void);
/* Bytes of memory that a model takes when it is open, its weights left out. */
size_t graphwright_memory(void);
void graphwright_close(graphwright_model *model);

#ifdef __cplusplus
}
#endif
#endif
