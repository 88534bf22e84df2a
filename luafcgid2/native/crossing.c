/* One request, from its params to its answer: the route, an idle Lua state, the crossing, what is counted.
 *
 * What responder.py (`respond`), state.py (`handle`), pool.py (`checkin`) and seat.py (`run`, `end`) do, in the same
 * order, for a script that has a route and an idle state and gives its whole answer as bytes.  All else is left to them:
 * before the crossing by UNFIT, after it by their `concluded`. */
#define _GNU_SOURCE 1
#include "clock.h"
#include "fastpath.h"

#include <string.h>

/* A script's own time in its answer, from so many seconds on; the prelude has written 0 ms. */
static const double STAMPED = 0.001;
/* Where the status stands in an answer, behind its name. */
enum { STATUS_AT = 8 };

/* Whether the request may be for a page of the server itself. */
static int may_be_page(FastPath *self, const Request *request)
{
    PyObject *pages = self->objects[PAGES];

    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(pages); index++) {
        PyObject *path = PyTuple_GET_ITEM(pages, index);

        if (memmem(request->params, request->params_size, PyBytes_AS_STRING(path), (size_t)PyBytes_GET_SIZE(path)))
            return 1;
    }
    return 0;
}

/* The route of a request whose params are what its route was found by; borrowed.  NULL where there is none, or with an
 * exception set. */
static PyObject *find_route(FastPath *self, const Request *request)
{
    Wanted wanted;
    PyObject *key, *route, *root;

    if (!request_find(request, &wanted))
        return NULL;
    key = PyBytes_FromStringAndSize(wanted.script, (Py_ssize_t)wanted.script_size);
    if (!key)
        return NULL;
    route = PyDict_GetItemWithError(self->objects[ROUTES], key);
    Py_DECREF(key);
    if (!route)
        return NULL;
    root = PyTuple_GET_ITEM(field_get(route, self->route[ROUTE_WANTED]), 1);
    if ((size_t)PyBytes_GET_SIZE(root) != wanted.root_size
            || memcmp(PyBytes_AS_STRING(root), wanted.root, wanted.root_size) != 0)
        return NULL;
    return route;
}

/* An idle Lua state for a route that still holds; a new reference, or NULL where there is none that is simple. */
static PyObject *take_state(FastPath *self, PyObject *route, double started)
{
    PyObject *entry = field_get(route, self->route[ROUTE_ENTRY]), *idle, *state, *handle;
    unsigned long long changes = PyLong_AsUnsignedLongLong(field_get(route, self->route[ROUTE_CHANGES]));
    Py_ssize_t count;

    if (changes != cells_of(self)[self->changes_cell]
            || PyFloat_AsDouble(field_get(route, self->route[ROUTE_UNTIL])) <= started
            || field_get(entry, self->entry[ENTRY_FAILURE]) != Py_None)
        return NULL;
    idle = field_get(entry, self->entry[ENTRY_IDLE]);
    count = PyList_GET_SIZE(idle);
    if (!count)
        return NULL;
    state = PyList_GET_ITEM(idle, count - 1);
    handle = Py_TYPE(state) == (PyTypeObject *)self->objects[STATE_TYPE]
            || Py_TYPE(state) == (PyTypeObject *)self->objects[BOUNDED_TYPE]
        ? field_get(state, self->state[STATE_HANDLE]) : NULL;
    if (!handle || handle == Py_None)
        return NULL;
    Py_INCREF(state);
    if (PyList_SetSlice(idle, count - 1, count, NULL) < 0) {
        Py_DECREF(state);
        return NULL;
    }
    return state;
}

/* What the thread runs from now on. */
static int begin(FastPath *self, Call *call, PyObject *params, PyObject *state, PyObject *route, double started)
{
    PyObject *seat = call->seat, *entry = field_get(state, self->state[STATE_ENTRY]), *time, *sock, *one;
    PyObject *path = field_get(route, self->route[ROUTE_PATH]);
    Py_ssize_t base;

    time = PyFloat_FromDouble(started);
    one = PyLong_FromLong(1);
    if (call->connection)
        sock = Py_NewRef(field_get(call->connection, self->connection[CONNECTION_SOCK]));
    else
        sock = PyLong_FromLong(call->fd);
    if (!time || !one || !sock) {
        Py_XDECREF(time);
        Py_XDECREF(one);
        Py_XDECREF(sock);
        return -1;
    }
    field_give(seat, self->seat[SEAT_SOCK], sock);
    field_give(seat, self->seat[SEAT_REQUEST_ID], one);
    field_set(seat, self->seat[SEAT_SERVING], Py_True);
    field_set(field_get(route, self->route[ROUTE_ENTRY]), self->entry[ENTRY_USED], time);
    field_give(seat, self->seat[SEAT_STARTED], time);
    field_set(seat, self->seat[SEAT_PARAMS], params);
    field_give(seat, self->seat[SEAT_HEAP], PyLong_FromLong(0));
    field_set(seat, self->seat[SEAT_STREAM], Py_None);
    if (field_add(seat, self->seat[SEAT_SERIAL], 1) < 0
            || field_add(seat, self->seat[SEAT_BYTES_IN], (long long)call->size) < 0)
        return -1;
    if (path == field_get(seat, self->seat[SEAT_SCRIPT])) {
        base = PyLong_AsSsize_t(field_get(seat, self->seat[SEAT_BASE]));
        cells_of(self)[base + self->started_cell] = (uint64_t)(started * 1e9);
        cells_of(self)[base + self->state_cell] = 1;
    } else if (CALL(seat, N_RUN, path, NULL) < 0) {
        return -1;
    }
    field_set(seat, self->seat[SEAT_STATE], state);
    field_set(seat, self->seat[SEAT_ENTRY], entry);
    field_set(state, self->state[STATE_SERVED], Py_True);
    field_set(state, self->state[STATE_RUNNING], params);
    return 0;
}

/* The crossing: what it gave, or the exception that it raised.  The prelude need not look for whom the params name:
 * find_route has walked them. */
static PyObject *cross(FastPath *self, PyObject *seat, PyObject *params, PyObject *body, PyObject *state)
{
    PyObject *handle = field_get(state, self->state[STATE_HANDLE]), *result, *type, *traceback;
    PyObject *arguments[] = {params, body, field_get(seat, self->seat[SEAT_NUMBER]), Py_True, Py_True};
    PyObject *allowance = field_get(state, self->state[STATE_ALLOWANCE]);

    Py_INCREF(handle);
    result = PyObject_Vectorcall(handle, arguments, 5, NULL);
    Py_DECREF(handle);
    if (!result) {
        PyErr_Fetch(&type, &result, &traceback);
        PyErr_NormalizeException(&type, &result, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
    field_set(state, self->state[STATE_RUNNING], Py_None);
    if (allowance != Py_None && CALL(allowance, N_LIFT, NULL) < 0)
        Py_CLEAR(result);
    return result;
}

/* As StatePool.checkin. */
static int checkin(FastPath *self, PyObject *state)
{
    PyObject *entry = field_get(state, self->state[STATE_ENTRY]);

    if (field_get(state, self->state[STATE_POOLED]) == Py_True
            && field_get(state, self->state[STATE_BROKEN]) == Py_False
            && field_get(entry, self->entry[ENTRY_GONE]) == Py_False
            && field_get(entry, self->entry[ENTRY_VERSION]) == field_get(state, self->state[STATE_VERSION]))
        return PyList_Append(field_get(entry, self->entry[ENTRY_IDLE]), state);
    return CALL(self->objects[POOL], N_CHECKIN, state, NULL);
}

/* As Seat.end. */
static int end(FastPath *self, PyObject *seat, double seconds, Py_ssize_t size, int failed)
{
    PyObject *entry = field_get(seat, self->seat[SEAT_ENTRY]), *most;
    double microseconds = seconds * 1000000;
    Py_ssize_t bucket;

    /* Not as an integer yet: half an hour is more than 32 bits hold. */
    if (!(microseconds < (double)self->buckets.len))
        return finished(PyObject_CallMethod(seat, "end", "dnO", seconds, size, failed ? Py_True : Py_False));
    cells_of(self)[PyLong_AsSsize_t(field_get(seat, self->seat[SEAT_BASE])) + self->state_cell] = 0;
    bucket = ((unsigned char *)self->buckets.buf)[(Py_ssize_t)microseconds];
    if (field_add(seat, self->seat[SEAT_REQUESTS], 1) < 0
            || field_add_seconds(seat, self->seat[SEAT_BUSY], seconds) < 0
            || field_add(seat, self->seat[SEAT_BYTES_OUT], size) < 0
            || item_increment(field_get(seat, self->seat[SEAT_LATENCIES]), bucket) < 0
            || field_add_seconds(entry, self->entry[ENTRY_BUSY], seconds) < 0
            || item_increment(field_get(entry, self->entry[ENTRY_LATENCIES]), bucket) < 0)
        return -1;
    if (failed && (field_add(seat, self->seat[SEAT_ERRORS], 1) < 0
                   || field_add(entry, self->entry[ENTRY_ERRORS], 1) < 0))
        return -1;
    most = field_get(entry, self->entry[ENTRY_MOST]);
    if (seconds > PyFloat_AsDouble(most))
        field_give(entry, self->entry[ENTRY_MOST], PyFloat_FromDouble(seconds));
    return 0;
}

/* Whether the result is the whole answer, and nobody has interrupted, traced or streamed. */
static int is_plain(FastPath *self, Call *call, PyObject *state, PyObject *result)
{
    PyObject *sock = field_get(call->seat, self->seat[SEAT_SOCK]);
    PyObject *target = field_get(state, self->state[STATE_TARGET]);

    return PyBytes_CheckExact(result) && PyBytes_GET_SIZE(result) > STATUS_AT
        && PyBytes_GET_SIZE(result) <= MAX_CONTENT
        && field_get(target, self->target[TARGET_PENDING]) == Py_False
        && field_get(call->seat, self->seat[SEAT_STREAM]) == Py_None
        && (call->connection || PyLong_CheckExact(sock));
}

/* What is not plain is Python's, from here to the closed or watched connection. */
static int conclude(FastPath *self, Call *call, PyObject *params, PyObject *body, PyObject *state, PyObject *route,
                    PyObject *result)
{
    PyObject *target = call->connection ? call->connection : field_get(call->seat, self->seat[SEAT_SOCK]);
    PyObject *flags = PyLong_FromLong(call->request.flags), *done;

    if (!flags)
        return FAILED;
    done = PyObject_CallMethodObjArgs((PyObject *)self, self->names[N_CONCLUDED], target, flags, params, body, call->seat,
                                      state, route, result, NULL);
    Py_DECREF(flags);
    Py_XDECREF(done);
    return LEFT;
}

/* From here on the state is checked in, or Python's. */
static int finish(FastPath *self, Call *call, PyObject *state, PyObject *result, double seconds)
{
    Py_ssize_t size = PyBytes_GET_SIZE(result);

    field_set(call->seat, self->seat[SEAT_STATE], Py_None);
    if (checkin(self, state) < 0
            || end(self, call->seat, seconds, size, PyBytes_AS_STRING(result)[STATUS_AT] == '5') < 0)
        return FAILED;
    return ANSWERED;
}

/* A fault of ours, before the crossing or after it: the pool closes the state, and counts it out. */
static void abandon(FastPath *self, const Call *call, PyObject *state)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    field_set(call->seat, self->seat[SEAT_STATE], Py_None);
    field_set(state, self->state[STATE_RUNNING], Py_None);
    field_set(state, self->state[STATE_BROKEN], Py_True);
    if (checkin(self, state) < 0)
        PyErr_WriteUnraisable(state);
    PyErr_Restore(type, value, traceback);
}

static PyObject *object_of(PyObject *made, const char *data, size_t size)
{
    return made ? Py_NewRef(made) : PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
}

/* With a route and a state, which nobody else has now. */
static int run(FastPath *self, Call *call, PyObject *state, PyObject *route, double started, PyObject **answer)
{
    const Request *request = &call->request;
    PyObject *params = object_of(call->params, request->params, request->params_size), *result = NULL;
    PyObject *body = object_of(call->body, request->body, request->body_size);
    int outcome = FAILED;

    if (params && body && begin(self, call, params, state, route, started) == 0)
        result = cross(self, call->seat, params, body, state);
    if (!result) {
        abandon(self, call, state);
    } else {
        double seconds = monotonic() - started;

        if (is_plain(self, call, state, result) && !(self->elapsed && seconds >= STAMPED))
            outcome = finish(self, call, state, result, seconds);
        else
            outcome = conclude(self, call, params, body, state, route, result);
    }
    if (outcome == ANSWERED)
        *answer = Py_NewRef(result);
    else if (outcome == FAILED)
        /* Or the master would see a request that never ends. */
        cells_of(self)[PyLong_AsSsize_t(field_get(call->seat, self->seat[SEAT_BASE])) + self->state_cell] = 0;
    Py_XDECREF(result);
    Py_XDECREF(body);
    Py_XDECREF(params);
    return outcome;
}

int crossing_make(FastPath *self, Call *call, PyObject **answer)
{
    double started = monotonic();
    PyObject *route, *state;
    int outcome;

    if ((Py_ssize_t)call->request.params_size > self->plain_params
            || (Py_ssize_t)call->request.body_size > self->plain_body || may_be_page(self, &call->request))
        return UNFIT;
    route = find_route(self, &call->request);
    if (!route)
        return PyErr_Occurred() ? FAILED : UNFIT;
    Py_INCREF(route);
    state = take_state(self, route, started);
    if (state)
        outcome = run(self, call, state, route, started, answer);
    else
        outcome = PyErr_Occurred() ? FAILED : UNFIT;
    Py_XDECREF(state);
    Py_DECREF(route);
    return outcome;
}
