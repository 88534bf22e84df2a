/* Requests whose body does not come with them in one read: begun, filled, and answered when they are whole.
 *
 * What receiving.py, body.py and fcgi.py do piece by piece is left to a Gather, for a body that is kept in memory.  While
 * it is on its way a connection has it as its `gather`, and nothing but timeouts.py looks at it; what does not go on as
 * it should goes on in Python (gathering.py). */
#include "fastpath.h"

/* A shorter body is hardly worth it. */
static const size_t LEAST = 4096;

/* Reads, and counts what was read.  A broken connection has ended, whatever its error is. */
static int fill(FastPath *self, Call *call, Gather *gather)
{
    long long taken;
    int done = gather_fill(gather, call->fd, &taken);

    if (done < 0) {
        PyErr_Clear();
        gather->ended = 1;
    }
    return field_add(call->seat, self->seat[SEAT_BYTES_IN], taken) < 0 ? -1 : done != 0;
}

Gather *upload_begin(FastPath *self, Call *call, size_t size)
{
    Request *request = &call->request;
    Gather *gather;
    PyObject *params;
    size_t room;

    if (!request_begins(self->in, size, request) || (Py_ssize_t)request->params_size > self->plain_params)
        return NULL;
    room = request_length(request);
    if (room < LEAST || room > (size_t)self->plain_body)
        return NULL;
    params = PyBytes_FromStringAndSize(request->params, (Py_ssize_t)request->params_size);
    if (!params)
        return NULL;
    gather = gather_begin((PyTypeObject *)self->objects[GATHER_TYPE], request->flags, params, room,
                          (const unsigned char *)request->body, request->body_size);
    Py_DECREF(params);
    if (!gather) {
        /* There is no memory for all that is announced: there may be for what comes, or a file. */
        PyErr_Clear();
        return NULL;
    }
    gather->drained = size < RECV_SIZE;
    if (field_add(call->seat, self->seat[SEAT_BYTES_IN], (long long)size) < 0
            || (!gather_is_done(gather) && fill(self, call, gather) < 0))
        Py_CLEAR(gather);
    return gather;
}

int upload_answer(FastPath *self, Call *call, Gather *gather, PyObject **answer)
{
    if (!gather_is_whole(gather))
        return UNFIT;
    call->params = gather->params;
    call->body = gather->body;
    call->request = (Request){gather->flags, PyBytes_AS_STRING(gather->params), PyBytes_AS_STRING(gather->body),
                              (size_t)PyBytes_GET_SIZE(gather->params), gather->size};
    /* It is counted already. */
    call->size = 0;
    return crossing_make(self, call, answer);
}

Gather *upload_of(FastPath *self, PyObject *connection)
{
    PyObject *gather = field_get(connection, self->connection[CONNECTION_GATHER]);

    return gather && Py_TYPE(gather) == (PyTypeObject *)self->objects[GATHER_TYPE]
            && field_get(connection, self->connection[CONNECTION_OPEN]) == Py_True
            && field_get(connection, self->connection[CONNECTION_OUTBOX]) == Py_None
        ? (Gather *)gather : NULL;
}

int upload_read(FastPath *self, Call *call, Gather *gather, Claim *lock)
{
    PyObject *connection = call->connection, *answer = NULL;
    int done = fill(self, call, gather), outcome;

    /* There is something to do, as the main thread sees by the number. */
    if (done < 0 || field_add(call->seat, self->seat[SEAT_SERIAL], 1) < 0)
        return connection_give_up(self, call, lock);
    if (!done) {
        /* It goes on waiting as before: how far it has come is looked at when its time is over. */
        lock->held = 0;
        if (field_get(connection, self->connection[CONNECTION_PENDING]) == Py_True)
            return CALL((PyObject *)self, N_AGAIN, connection, call->seat, NULL);
        return 0;
    }
    field_set(connection, self->connection[CONNECTION_GATHER], Py_None);
    outcome = upload_answer(self, call, gather, &answer);
    if (outcome == UNFIT)
        field_set(connection, self->connection[CONNECTION_GATHER], (PyObject *)gather);
    else if (PySet_Discard(self->objects[BODIES], (PyObject *)gather) < 0)
        PyErr_WriteUnraisable((PyObject *)gather);
    return connection_conclude(self, call, lock, outcome, answer, Py_None);
}
