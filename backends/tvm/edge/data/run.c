/* Runs model.so: ./run [-r REPEATS] [-t THREADS] [-o FOLDER] [INPUT.npy ...]

   The files are the inputs in order; without any, arrays of ones go in. Output number i is written to FOLDER/i.npy (nothing is written without -o).
   Prints the ports, and the latency: the fastest, median and slowest of the repeats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "graphwright.h"

enum { HEADER = 4096 };

static int fail(const char *what, const char *which) {
    fprintf(stderr, "run: %s%s%s\n", what, which ? ": " : "", which ? which : "");
    return 1;
}

static void describe(const char *kind, const graphwright_port *port) {
    printf("%s %s %s (", kind, port->name, port->dtype);
    for (int64_t i = 0; i < port->rank; i++) printf(i ? ", %lld" : "%lld", (long long)port->shape[i]);
    puts(")");
}

/* The header that numpy writes for this port, without padding: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), } */
static void header_of(const graphwright_port *port, char *text, size_t room) {
    size_t used = (size_t)snprintf(text, room, "{'descr': '%s', 'fortran_order': False, 'shape': (", port->dtype);
    for (int64_t i = 0; i < port->rank && used < room; i++) {
        const char *format = port->rank == 1 ? "%lld," : i ? ", %lld" : "%lld";
        used += (size_t)snprintf(text + used, room - used, format, (long long)port->shape[i]);
    }
    if (used < room) snprintf(text + used, room - used, "), }");
}

/* Read a .npy file of this very dtype and shape, or say why not. */
static int read_array(const char *path, const graphwright_port *port) {
    unsigned char start[12];
    char found[HEADER] = "", wanted[HEADER];
    FILE *file = fopen(path, "rb");
    if (!file) return fail("cannot open", path);
    size_t length = 0;
    int readable = fread(start, 1, 10, file) == 10 && !memcmp(start, "\x93NUMPY", 6);
    if (readable && start[6] == 1) length = start[8] | (size_t)start[9] << 8;
    else if (readable && fread(start + 10, 1, 2, file) == 2)
        length = start[8] | (size_t)start[9] << 8 | (size_t)start[10] << 16 | (size_t)start[11] << 24;
    readable = length && length < HEADER && fread(found, 1, length, file) == length;
    header_of(port, wanted, HEADER);
    if (!readable) {
        fclose(file);
        return fail("not a .npy file", path);
    }
    if (strncmp(found, wanted, strlen(wanted))) {
        fprintf(stderr, "run: '%s' holds %.*s; the input '%s' needs %s\n", path, (int)strcspn(found, "}") + 1, found, port->name, wanted);
        fclose(file);
        return 1;
    }
    int whole = fread(port->data, 1, port->bytes, file) == port->bytes && fgetc(file) == EOF;
    fclose(file);
    return whole ? 0 : fail("the file does not hold what its header says", path);
}

static int write_array(const char *folder, int number, const graphwright_port *port) {
    char path[HEADER], text[HEADER];
    snprintf(path, HEADER, "%s/%d.npy", folder, number);
    header_of(port, text, HEADER);
    size_t length = strlen(text), whole = (10 + length + 1 + 63) / 64 * 64 - 10;
    FILE *file = fopen(path, "wb");
    if (!file) return fail("cannot write", path);
    fwrite("\x93NUMPY\x01\x00", 1, 8, file);
    fputc((int)(whole & 255), file), fputc((int)(whole >> 8), file);
    fwrite(text, 1, length, file);
    for (size_t i = length; i + 1 < whole; i++) fputc(' ', file);
    fputc('\n', file);
    int written = fwrite(port->data, 1, port->bytes, file) == port->bytes;
    return fclose(file) || !written ? fail("cannot write", path) : 0;
}

static int is(const char *dtype, const char *other) { return !strcmp(dtype, other); }

static void fill_with_ones(const graphwright_port *port) {
    for (size_t i = 0; i < port->bytes; i++) ((unsigned char *)port->data)[i] = 0;
    size_t step = (size_t)atoi(port->dtype + 2);
    for (size_t i = 0; step && i < port->bytes; i += step) {
        unsigned char *at = (unsigned char *)port->data + i;
        if (is(port->dtype, "<f4")) memcpy(at, &(float){1}, 4);
        else if (is(port->dtype, "<f8")) memcpy(at, &(double){1}, 8);
        else if (is(port->dtype, "<f2")) memcpy(at, &(uint16_t){0x3c00}, 2);
        else *at = 1;
    }
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static int ascending(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static int measure(graphwright_model *model, int repeats) {
    double *times = calloc((size_t)repeats, sizeof *times);
    if (!times) return fail("not enough memory", NULL);
    for (int i = 0; i < repeats; i++) {
        double start = now_ms();
        if (graphwright_run(model)) {
            free(times);
            return fail("the model failed", graphwright_error());
        }
        times[i] = now_ms() - start;
    }
    qsort(times, (size_t)repeats, sizeof *times, ascending);
    printf("latency %.3f ms, median %.3f ms, slowest %.3f ms of %d; memory %zu bytes beside the weights\n", times[0], times[repeats / 2],
           times[repeats - 1], repeats, graphwright_memory());
    free(times);
    return 0;
}

int main(int count, char **arguments) {
    int repeats = 1, threads = 1, at = 1, failed = 0, number = 0, given;
    const char *folder = NULL;
    for (; at + 1 < count && arguments[at][0] == '-'; at += 2) {
        if (is(arguments[at], "-r")) repeats = atoi(arguments[at + 1]);
        else if (is(arguments[at], "-t")) threads = atoi(arguments[at + 1]);
        else if (is(arguments[at], "-o")) folder = arguments[at + 1];
        else break;
    }
    if (repeats < 1 || threads < 1 || (at < count && arguments[at][0] == '-'))
        return fail("run [-r REPEATS] [-t THREADS] [-o FOLDER] [INPUT.npy ...]", NULL);
    given = count - at;
    graphwright_model *model = graphwright_open(threads);
    if (!model) return fail("not enough memory for the model", NULL);
    for (const graphwright_port *port = graphwright_inputs(model); port->name && !failed; port++) {
        describe("input", port);
        if (at < count) failed = read_array(arguments[at++], port);
        else if (given) failed = fail("there is no file for the input", port->name);
        else fill_with_ones(port);
    }
    if (!failed && at < count) failed = fail("there are more files than inputs", arguments[at]);
    failed = failed || measure(model, repeats);
    for (const graphwright_port *port = graphwright_outputs(model); port->name && !failed; port++) {
        describe("output", port);
        if (folder) failed = write_array(folder, number++, port);
    }
    graphwright_close(model);
    return failed;
}
