/* Runs the calls of a model's tables one after the other, and gives its kernels the few functions that they ask a runtime for. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graphwright.h"
#include "tables.h"

enum { ALIGNMENT = 64, CPU = 1, LONGEST_ERROR = 1024 };

/* FTVMParallelLambda and its TVMParallelGroupEnv */
typedef struct {
    void *barrier;
    int32_t tasks;
} gw_group;
typedef int (*gw_task)(int task, gw_group *group, void *data);

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t start, finish;
    gw_task task;
    void *data;
    unsigned round;
    int tasks, members, busy, failed, stop;
} gw_team;

typedef struct {
    gw_team *team;
    int number;
    pthread_t thread;
} gw_worker;

struct graphwright_model {
    unsigned char *arena;
    gw_dltensor *tensors;
    gw_any *arguments;
    graphwright_port *inputs, *outputs;
    gw_worker *workers;
    gw_team team;
};

static char last_error[LONGEST_ERROR] = "";
static __thread gw_team *current_team;

const char *graphwright_error(void) { return last_error; }

size_t graphwright_memory(void) {
    size_t ports = (size_t)(gw_input_count + gw_output_count + 2) * sizeof(graphwright_port);
    return gw_arena_bytes + (size_t)gw_tensor_count * sizeof(gw_dltensor) + (size_t)gw_argument_count * sizeof(gw_any) + ports;
}

/* ---- what the kernels ask for ---- */

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    size_t used = (size_t)snprintf(last_error, LONGEST_ERROR, "%s: ", kind);
    for (int32_t i = 0; i < count && used < LONGEST_ERROR; i++)
        if (parts[i]) used += (size_t)snprintf(last_error + used, LONGEST_ERROR - used, "%s", parts[i]);
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) { TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1); }

void *TVMBackendAllocWorkspace(int device, int number, uint64_t bytes, int code, int bits) {
    (void)device, (void)number, (void)code, (void)bits;
    return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
}

int TVMBackendFreeWorkspace(int device, int number, void *memory) {
    (void)device, (void)number;
    free(memory);
    return 0;
}

static int do_share(gw_team *team, int number) {
    gw_group group = {NULL, team->tasks};
    int failed = 0;
    for (int task = number; task < team->tasks; task += team->members) failed |= team->task(task, &group, team->data);
    return failed;
}

int TVMBackendParallelLaunch(gw_task task, void *data, int tasks) {
    gw_team *team = current_team;
    if (!team || team->members == 1) {
        gw_group group = {NULL, tasks ? tasks : 1};
        int failed = 0;
        for (int i = 0; i < group.tasks; i++) failed |= task(i, &group, data);
        return failed ? -1 : 0;
    }
    pthread_mutex_lock(&team->lock);
    team->task = task, team->data = data, team->tasks = tasks ? tasks : team->members;
    team->busy = team->members - 1, team->failed = 0, team->round++;
    pthread_cond_broadcast(&team->start);
    pthread_mutex_unlock(&team->lock);
    int failed = do_share(team, 0);
    pthread_mutex_lock(&team->lock);
    while (team->busy) pthread_cond_wait(&team->finish, &team->lock);
    failed |= team->failed;
    pthread_mutex_unlock(&team->lock);
    return failed ? -1 : 0;
}

static void *work(void *argument) {
    gw_worker *worker = argument;
    gw_team *team = worker->team;
    unsigned seen = 0;
    for (;;) {
        pthread_mutex_lock(&team->lock);
        while (team->round == seen && !team->stop) pthread_cond_wait(&team->start, &team->lock);
        seen = team->round;
        int stop = team->stop;
        pthread_mutex_unlock(&team->lock);
        if (stop) return NULL;
        int failed = do_share(team, worker->number);
        pthread_mutex_lock(&team->lock);
        team->failed |= failed;
        if (--team->busy == 0) pthread_cond_signal(&team->finish);
        pthread_mutex_unlock(&team->lock);
    }
}

/* Kernels reach these through pointers, which TVM's own loader would fill in. */
void *__TVMBackendAllocWorkspace = (void *)TVMBackendAllocWorkspace;
void *__TVMBackendFreeWorkspace = (void *)TVMBackendFreeWorkspace;
void *__TVMBackendParallelLaunch = (void *)TVMBackendParallelLaunch;
void *__TVMFFIErrorSetRaisedFromCStr = (void *)TVMFFIErrorSetRaisedFromCStr;
void *__TVMFFIErrorSetRaisedFromCStrParts = (void *)TVMFFIErrorSetRaisedFromCStrParts;

/* ---- the model ---- */

static void lay_out(graphwright_model *model) {
    for (int32_t i = 0; i < gw_tensor_count; i++) {
        const gw_tensor *one = &gw_tensors[i];
        unsigned char *data = one->is_weight ? (unsigned char *)gw_weights + one->offset : model->arena + one->offset;
        model->tensors[i] = (gw_dltensor){data, CPU, 0, one->rank, one->code, one->bits, 1, one->shape, one->strides, 0};
    }
    for (int32_t i = 0; i < gw_argument_count; i++) {
        const gw_argument *one = &gw_arguments[i];
        model->arguments[i].type = one->type;
        if (one->type == GW_TENSOR) model->arguments[i].value.pointer = &model->tensors[one->integer];
        else if (one->type == GW_FLOAT) model->arguments[i].value.number = one->number;
        else model->arguments[i].value.integer = one->integer;
    }
}

static void describe(graphwright_model *model, graphwright_port *ports, const gw_port *table, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        const gw_tensor *tensor = &gw_tensors[table[i].tensor];
        ports[i] = (graphwright_port){table[i].name, table[i].dtype, tensor->rank, tensor->shape, table[i].bytes, model->tensors[table[i].tensor].data};
    }
}

static int hire(graphwright_model *model, int threads) {
    gw_team *team = &model->team;
    team->members = 1;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->start, NULL);
    pthread_cond_init(&team->finish, NULL);
    for (int i = 1; i < threads; i++) {
        model->workers[i] = (gw_worker){team, i, 0};
        if (pthread_create(&model->workers[i].thread, NULL, work, &model->workers[i])) return -1;
        team->members++;
    }
    return 0;
}

graphwright_model *graphwright_open(int threads) {
    graphwright_model *model = calloc(1, sizeof *model);
    if (!model) return NULL;
    if (threads < 1) threads = 1;
    model->arena = aligned_alloc(ALIGNMENT, (gw_arena_bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
    model->tensors = calloc((size_t)gw_tensor_count + 1, sizeof *model->tensors);
    model->arguments = calloc((size_t)gw_argument_count + 1, sizeof *model->arguments);
    model->inputs = calloc((size_t)gw_input_count + 1, sizeof *model->inputs);
    model->outputs = calloc((size_t)gw_output_count + 1, sizeof *model->outputs);
    model->workers = calloc((size_t)threads, sizeof *model->workers);
    if (!model->arena || !model->tensors || !model->arguments || !model->inputs || !model->outputs || !model->workers || hire(model, threads)) {
        graphwright_close(model);
        return NULL;
    }
    memset(model->arena, 0, gw_arena_bytes);
    lay_out(model);
    describe(model, model->inputs, gw_inputs, gw_input_count);
    describe(model, model->outputs, gw_outputs, gw_output_count);
    return model;
}

const graphwright_port *graphwright_inputs(const graphwright_model *model) { return model->inputs; }

const graphwright_port *graphwright_outputs(const graphwright_model *model) { return model->outputs; }

int graphwright_run(graphwright_model *model) {
    current_team = &model->team;
    for (int32_t i = 0; i < gw_call_count; i++) {
        gw_any result = {0, 0, {0}};
        if (gw_calls[i].kernel(NULL, model->arguments + gw_calls[i].first, gw_calls[i].count, &result)) return -1;
    }
    return 0;
}

void graphwright_close(graphwright_model *model) {
    if (!model) return;
    pthread_mutex_lock(&model->team.lock);
    model->team.stop = 1;
    pthread_cond_broadcast(&model->team.start);
    pthread_mutex_unlock(&model->team.lock);
    for (int i = 1; i < model->team.members; i++) pthread_join(model->workers[i].thread, NULL);
    free(model->arena), free(model->tensors), free(model->arguments);
    free(model->inputs), free(model->outputs), free(model->workers), free(model);
}
