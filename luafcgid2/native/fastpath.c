/* The fast path: what most requests need, from epoll to the sent answer, without Python's interpreter.
 *
 * In: the parts of a worker, which luafcgid2/fastpath.py hands over.  Out: `run` leads: it polls and serves, and comes
 * back for what is Python's: events of other descriptors, work of the pool, the end of its epoch, a main thread to be
 * woken.  A request of another kind, on a connection in another condition, is given to methods of the Python class that
 * derives from FastPath, as soon as that is seen.  It decides nothing that Python does not decide, and a worker without
 * it does the same.
 *
 * The GIL is held but while Lua runs, while it waits in epoll_wait, and in those methods; so all that is between them
 * happens at once for other threads.
 */
#include "fastpath.h"

#include <structmember.h>

static const char *const object_names[OBJECTS + 1] = {
    "connections", "waiting", "bodies", "ready", "routes", "pages", "short", "heavy", "closing", "relay", "server",
    "poller", "pool", "seat_type", "entry_type", "state_type", "bounded_type", "route_type", "relay_type",
    "target_type", "connection_type", "claim_type", "gather_type", "buckets", "cells", NULL};
static const char *const attribute_names[NAMES] = {
    "run", "checkin", "lift", "concluded", "draining", "accepting", "resume", "welcome",
    "unsent", "settle", "again", "refused", "close"};
static const char *const seat_names[] = {
    "number", "serial", "serving", "polling", "requests", "errors", "busy", "bytes_in", "bytes_out", "accepted",
    "latencies", "started", "params", "state", "entry", "heap", "sock", "request_id", "stream", "script", "_base", NULL};
static const char *const entry_names[] = {
    "version", "idle", "used", "failure", "gone", "errors", "busy", "most", "latencies", NULL};
static const char *const state_names[] = {
    "version", "entry", "pooled", "broken", "served", "running", "_handle", "_target", "_allowance", NULL};
static const char *const route_names[] = {"until", "changes", "wanted", "entry", "path", NULL};
static const char *const relay_names[] = {"epoch", "sleeping", NULL};
static const char *const target_names[] = {"pending", NULL};
static const char *const connection_names[] = {
    "_sock", "_requests", "_buffer", "_pouring", "open", "outbox", "served", "pending", "lock", "gather", NULL};

static int pool_waits(FastPath *self)
{
    return PyObject_Size(self->objects[SHORT]) || PyObject_Size(self->objects[HEAVY])
        || PyObject_Size(self->objects[CLOSING]);
}

int fastpath_leads(FastPath *self, PyObject *epoch)
{
    PyObject *now = field_get(self->objects[RELAY], self->relay[RELAY_EPOCH]);

    return (now == epoch || PyObject_RichCompareBool(now, epoch, Py_EQ) == 1) && !pool_waits(self);
}

/* What is not ours. */
static int hand_over(FastPath *self, const struct epoll_event *event)
{
    return finished(PyObject_CallMethod(self->objects[READY], "append", "((ii))", event->data.fd, (int)event->events));
}

/* Out of the queue first, then dealt with: what is called may let another thread at it. */
static struct epoll_event take(FastPath *self)
{
    struct epoll_event event = self->queue[self->first];

    self->first = --self->queued ? (self->first + 1) % MAX_QUEUE : 0;
    return event;
}

/* The next event of the queue. */
static int step(FastPath *self, PyObject *seat, PyObject *epoch)
{
    struct epoll_event event = take(self);
    PyObject *number, *connection;
    int done = 1;

    number = PyLong_FromLong(event.data.fd);
    if (!number)
        return -1;
    connection = PyDict_GetItemWithError(self->objects[CONNECTIONS], number);
    Py_DECREF(number);
    if (connection) {
        Py_INCREF(connection);
        done = connection_serve(self, connection, &event, seat);
        Py_DECREF(connection);
    } else if (PyErr_Occurred()) {
        return -1;
    } else if (event.data.fd == self->listener) {
        /* Last: once a worker that leaves has closed it, a connection may have its number. */
        return connection_accept(self, seat, epoch);
    }
    return done == 1 ? hand_over(self, &event) : done;
}

/* Waits for events; there are none when a signal came instead. */
static void poll_events(FastPath *self, PyObject *seat)
{
    struct epoll_event events[MAX_EVENTS];
    int count;

    field_set(seat, self->seat[SEAT_POLLING], Py_True);
    Py_BEGIN_ALLOW_THREADS
    count = epoll_wait(self->epoll, events, MAX_EVENTS, -1);
    Py_END_ALLOW_THREADS
    field_set(seat, self->seat[SEAT_POLLING], Py_False);
    for (int index = 0; index < count; index++) {
        if (self->queued == MAX_QUEUE) {
            if (hand_over(self, &events[index]) < 0)
                PyErr_WriteUnraisable((PyObject *)self);
        } else {
            self->queue[(self->first + self->queued++) % MAX_QUEUE] = events[index];
        }
    }
}

PyDoc_STRVAR(run_doc, "run(seat, epoch)\n--\n\nLead: poll and serve, until something is Python's to do.");

static PyObject *run(FastPath *self, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *seat, *epoch;

    if (count != 2 || Py_TYPE(arguments[0]) != (PyTypeObject *)self->objects[SEAT_TYPE]) {
        PyErr_SetString(PyExc_TypeError, "run(seat, epoch)");
        return NULL;
    }
    seat = arguments[0];
    epoch = arguments[1];
    while (fastpath_leads(self, epoch) && !PyObject_Size(self->objects[READY])) {
        if (!self->queued) {
            poll_events(self, seat);
            if (field_get(self->objects[RELAY], self->relay[RELAY_SLEEPING]) == Py_True || !self->queued)
                break;
        }
        if (step(self, seat, epoch) < 0)
            return NULL;
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(reclaim_doc, "reclaim()\n--\n\nPut what is ready and not dealt with into the poller's queue.");

static PyObject *reclaim(FastPath *self, PyObject *Py_UNUSED(ignored))
{
    while (self->queued) {
        struct epoll_event event = take(self);

        if (hand_over(self, &event) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static int number_of(PyObject *numbers, const char *name, Py_ssize_t *value)
{
    PyObject *found = PyDict_GetItemString(numbers, name);

    if (!found) {
        PyErr_Format(PyExc_TypeError, "FastPath: %s is missing", name);
        return -1;
    }
    *value = PyLong_AsSsize_t(found);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int take_numbers(FastPath *self, PyObject *numbers)
{
    Py_ssize_t epoll, listener, elapsed;

    if (number_of(numbers, "epoll", &epoll) < 0 || number_of(numbers, "listener", &listener) < 0
            || number_of(numbers, "elapsed", &elapsed) < 0
            || number_of(numbers, "plain_params", &self->plain_params) < 0
            || number_of(numbers, "plain_body", &self->plain_body) < 0
            || number_of(numbers, "state_cell", &self->state_cell) < 0
            || number_of(numbers, "started_cell", &self->started_cell) < 0
            || number_of(numbers, "changes_cell", &self->changes_cell) < 0)
        return -1;
    self->epoll = (int)epoll;
    self->listener = (int)listener;
    self->elapsed = elapsed != 0;
    self->burst = 1;
    return 0;
}

static int take_fields(FastPath *self)
{
    PyObject **objects = self->objects;

    return fields_find(objects[SEAT_TYPE], seat_names, self->seat) < 0
        || fields_find(objects[ENTRY_TYPE], entry_names, self->entry) < 0
        || fields_find(objects[STATE_TYPE], state_names, self->state) < 0
        || fields_find(objects[ROUTE_TYPE], route_names, self->route) < 0
        || fields_find(objects[RELAY_TYPE], relay_names, self->relay) < 0
        || fields_find(objects[TARGET_TYPE], target_names, self->target) < 0
        || fields_find(objects[CONNECTION_TYPE], connection_names, self->connection) < 0
        || PyObject_GetBuffer(objects[CELLS], &self->cells, PyBUF_WRITABLE) < 0
        || PyObject_GetBuffer(objects[BUCKETS], &self->buckets, PyBUF_SIMPLE) < 0 ? -1 : 0;
}

static int init(FastPath *self, PyObject *arguments, PyObject *keywords)
{
    PyObject *objects, *numbers;

    if (keywords || !PyArg_ParseTuple(arguments, "O!O!", &PyDict_Type, &objects, &PyDict_Type, &numbers))
        return -1;
    for (int index = 0; index < OBJECTS; index++) {
        PyObject *found = PyDict_GetItemString(objects, object_names[index]);

        if (!found) {
            PyErr_Format(PyExc_TypeError, "FastPath: %s is missing", object_names[index]);
            return -1;
        }
        Py_XSETREF(self->objects[index], Py_NewRef(found));
    }
    for (int index = 0; index < NAMES; index++) {
        PyObject *name = PyUnicode_InternFromString(attribute_names[index]);

        if (!name)
            return -1;
        Py_XSETREF(self->names[index], name);
    }
    /* Not a part of the object, which Python would fill with zeros: most of it is never touched. */
    if (!self->in)
        self->in = PyMem_RawMalloc(RECV_SIZE + SEND_SIZE);
    if (!self->in) {
        PyErr_NoMemory();
        return -1;
    }
    self->out = self->in + RECV_SIZE;
    if (!PyDict_Check(self->objects[CONNECTIONS]) || !PyDict_Check(self->objects[ROUTES])
            || !PySet_Check(self->objects[WAITING]) || !PySet_Check(self->objects[BODIES])
            || !PyTuple_Check(self->objects[PAGES])) {
        PyErr_SetString(PyExc_TypeError,
                        "FastPath: connections, routes, waiting, bodies, pages: dict, dict, set, set, tuple");
        return -1;
    }
    return take_numbers(self, numbers) < 0 ? -1 : take_fields(self);
}

static int traverse(FastPath *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (int index = 0; index < OBJECTS; index++)
        Py_VISIT(self->objects[index]);
    return 0;
}

static int clear(FastPath *self)
{
    for (int index = 0; index < OBJECTS; index++)
        Py_CLEAR(self->objects[index]);
    return 0;
}

static void dealloc(FastPath *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->cells.obj)
        PyBuffer_Release(&self->cells);
    if (self->buckets.obj)
        PyBuffer_Release(&self->buckets);
    clear(self);
    for (int index = 0; index < NAMES; index++)
        Py_CLEAR(self->names[index]);
    PyMem_RawFree(self->in);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, run_doc},
    {"reclaim", (PyCFunction)reclaim, METH_NOARGS, reclaim_doc},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef members[] = {
    {"queued", T_INT, offsetof(FastPath, queued), READONLY, "How many events are ready and not dealt with."},
    {NULL, 0, 0, 0, NULL},
};
PyDoc_STRVAR(type_doc, "FastPath(objects, numbers)\n--\n\nSee luafcgid2/fastpath.py, which alone derives from it.");
static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)type_doc}, {Py_tp_init, init}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods}, {Py_tp_members, members}, {0, NULL},
};
static PyType_Spec spec = {
    .name = "luafcgid2._fastpath.FastPath",
    .basicsize = sizeof(FastPath),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static int exec(PyObject *module)
{
    static const struct {
        const char *name;
        PyType_Spec *spec;
    } types[] = {{"FastPath", &spec}, {"Claim", &claim_spec}, {"Gather", &gather_spec}};

    for (size_t index = 0; index < sizeof types / sizeof *types; index++) {
        PyObject *type = PyType_FromSpec(types[index].spec);

        if (!type)
            return -1;
        if (PyModule_AddObject(module, types[index].name, type) < 0) {
            Py_DECREF(type);
            return -1;
        }
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, exec}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_fastpath", "The fast path of a worker, in C; see luafcgid2/fastpath.py.", 0, NULL,
    module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fastpath(void)
{
    return PyModuleDef_Init(&module);
}
