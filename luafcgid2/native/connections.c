/* What comes by connections: new ones, and those that are kept.  Reads, lets crossing.c answer, sends.
 *
 * What poller.py (`serve`, `_accept`, `welcome`), fcgi.py (`receive`, `reply`, `answer_at_once`) and delivery.py do, for
 * one whole request between others.  Nothing waits: what is not there yet, or finds no room, is Python's. */
#define _GNU_SOURCE 1
#include "fastpath.h"

#include <errno.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one read gave, as Python's; NULL for what it should find out itself. */
static PyObject *as_bytes(FastPath *self, ssize_t size)
{
    if (size < 0)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((char *)self->in, size);
}

/* Frames and sends the answer; what is left, or the error, is Python's.  1: all is out, 0: `unsent` has dealt with the
 * rest, perhaps with an exception set. */
static int deliver(FastPath *self, Call *call, PyObject *target, PyObject *answer)
{
    size_t size = request_frame(self->out, PyBytes_AS_STRING(answer), (size_t)PyBytes_GET_SIZE(answer));
    ssize_t sent = send(call->fd, self->out, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    PyObject *left, *flags, *number;
    int problem = 0;

    if (sent == (ssize_t)size)
        return 1;
    if (sent < 0) {
        problem = errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
        sent = 0;
    }
    left = PyBytes_FromStringAndSize((char *)self->out + sent, (Py_ssize_t)size - sent);
    flags = PyLong_FromLong(call->request.flags);
    number = PyLong_FromLong(problem);
    if (left && flags && number)
        CALL((PyObject *)self, N_UNSENT, target, flags, left, number, call->seat, NULL);
    Py_XDECREF(left);
    Py_XDECREF(flags);
    Py_XDECREF(number);
    return 0;
}

/* Lets go of a connection that was served; `after` and `serve` of the poller are for what is rare. */
static int leave(FastPath *self, PyObject *connection, Claim *lock, PyObject *seat)
{
    int waits = PySet_GET_SIZE(self->objects[WAITING]) ? PySet_Contains(self->objects[WAITING], connection) : 0;

    if (waits < 0 || (waits && CALL((PyObject *)self, N_SETTLE, connection, NULL) < 0))
        PyErr_WriteUnraisable(connection);
    lock->held = 0;
    if (field_get(connection, self->connection[CONNECTION_PENDING]) == Py_True)
        return CALL((PyObject *)self, N_AGAIN, connection, seat, NULL);
    return 0;
}

/* A fault of ours: the web server must not wait for an answer that never comes. */
int connection_give_up(FastPath *self, Call *call, Claim *lock)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    field_set(call->seat, self->seat[SEAT_SERVING], Py_False);
    field_set(call->seat, self->seat[SEAT_STATE], Py_None);
    if (CALL(call->connection, N_CLOSE, NULL) < 0)
        PyErr_WriteUnraisable(call->connection);
    if (leave(self, call->connection, lock, call->seat) < 0)
        PyErr_WriteUnraisable(call->connection);
    PyErr_Restore(type, value, traceback);
    return -1;
}

/* All of the answer is out, or Python's; the lock is let go of. */
static int kept(FastPath *self, Call *call, Claim *lock, PyObject *answer)
{
    PyObject *connection = call->connection;
    int draining = is_true(self, self->objects[SERVER], N_DRAINING);

    field_set(connection, self->connection[CONNECTION_SERVED], Py_True);
    if (draining >= 0 && deliver(self, call, connection, answer)
            && (!(call->request.flags & KEEP_CONN) || draining))
        CALL(connection, N_CLOSE, NULL);
    field_set(call->seat, self->seat[SEAT_SERVING], Py_False);
    return PyErr_Occurred() ? connection_give_up(self, call, lock) : leave(self, connection, lock, call->seat);
}

int connection_conclude(FastPath *self, Call *call, Claim *lock, int outcome, PyObject *answer, PyObject *data)
{
    int done;

    switch (outcome) {
    case ANSWERED:
        done = kept(self, call, lock, answer);
        Py_DECREF(answer);
        return done;
    case LEFT:
        return PyErr_Occurred() ? -1 : 0;
    case UNFIT:
        return CALL((PyObject *)self, N_RESUME, call->connection, data, call->seat, NULL);
    default:
        return connection_give_up(self, call, lock);
    }
}

/* A connection is ready to be read, and ours.  What is called at the end lets go of the lock. */
static int read_kept(FastPath *self, Call *call, Claim *lock)
{
    ssize_t size = recv(call->fd, self->in, RECV_SIZE, MSG_DONTWAIT);
    PyObject *data = NULL, *answer = NULL;
    Gather *upload = NULL;
    int outcome = UNFIT, done;

    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return leave(self, call->connection, lock, call->seat);
    if (size > 0 && size < RECV_SIZE && request_parse(self->in, (size_t)size, &call->request)) {
        call->size = (size_t)size;
        outcome = crossing_make(self, call, &answer);
    } else if (size > 0) {
        upload = upload_begin(self, call, (size_t)size);
        if (upload)
            outcome = upload_answer(self, call, upload, &answer);
    }
    if (outcome == UNFIT && !PyErr_Occurred())
        data = upload ? Py_NewRef((PyObject *)upload) : as_bytes(self, size);
    done = connection_conclude(self, call, lock, outcome == UNFIT && !data ? FAILED : outcome, answer, data);
    Py_XDECREF(data);
    Py_XDECREF((PyObject *)upload);
    return done;
}

/* Whether a connection is between two requests. */
static int is_quiet(FastPath *self, PyObject *connection)
{
    const Field *fields = self->connection;
    PyObject *buffer = field_get(connection, fields[CONNECTION_BUFFER]);
    PyObject *requests = field_get(connection, fields[CONNECTION_REQUESTS]);

    return field_get(connection, fields[CONNECTION_OPEN]) == Py_True
        && field_get(connection, fields[CONNECTION_OUTBOX]) == Py_None
        && field_get(connection, fields[CONNECTION_POURING]) == Py_None
        && PyBytes_CheckExact(buffer) && PyBytes_GET_SIZE(buffer) == 0
        && PyDict_CheckExact(requests) && PyDict_GET_SIZE(requests) == 0;
}

int connection_serve(FastPath *self, PyObject *connection, const struct epoll_event *event, PyObject *seat)
{
    Call call = {.seat = seat, .connection = connection, .fd = event->data.fd};
    PyObject *lock;
    Gather *upload;
    int done = 1;

    if ((event->events & ~(uint32_t)EPOLLIN)
            || Py_TYPE(connection) != (PyTypeObject *)self->objects[CONNECTION_TYPE])
        return 1;
    lock = field_get(connection, self->connection[CONNECTION_LOCK]);
    upload = upload_of(self, connection);
    if (!lock || Py_TYPE(lock) != (PyTypeObject *)self->objects[CLAIM_TYPE] || ((Claim *)lock)->held
            || !(upload || is_quiet(self, connection)))
        return 1;
    Py_INCREF(lock);
    Py_XINCREF((PyObject *)upload);
    ((Claim *)lock)->held = 1;
    done = upload ? upload_read(self, &call, upload, (Claim *)lock) : read_kept(self, &call, (Claim *)lock);
    Py_XDECREF((PyObject *)upload);
    Py_DECREF(lock);
    return done;
}

/* A new connection, of which most are closed after one request. */
static int meet(FastPath *self, int fd, PyObject *seat)
{
    Call call = {.seat = seat, .fd = fd};
    ssize_t size = recv(fd, self->in, RECV_SIZE, MSG_DONTWAIT);
    PyObject *number, *data, *answer;
    Gather *upload = NULL;
    int outcome = UNFIT, done = -1;

    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        /* The web server has connected, but was stopped before it could send, perhaps by us: it goes first. */
        sched_yield();
        size = recv(fd, self->in, RECV_SIZE, MSG_DONTWAIT);
    }
    if (size > 0 && size < RECV_SIZE && request_parse(self->in, (size_t)size, &call.request)
            && !(call.request.flags & KEEP_CONN)) {
        call.size = (size_t)size;
        outcome = crossing_make(self, &call, &answer);
    } else if (size > 0) {
        upload = upload_begin(self, &call, (size_t)size);
        if (upload && !(upload->flags & KEEP_CONN))
            outcome = upload_answer(self, &call, upload, &answer);
    }
    if (outcome == ANSWERED) {
        PyObject *target = Py_NewRef(field_get(seat, self->seat[SEAT_SOCK]));

        if (deliver(self, &call, target, answer))
            close(fd);
        Py_DECREF(target);
        Py_DECREF(answer);
        done = PyErr_Occurred() ? -1 : 0;
    } else if (outcome == LEFT) {
        done = PyErr_Occurred() ? -1 : 0;
    } else if (outcome == FAILED) {
        field_set(seat, self->seat[SEAT_STATE], Py_None);
        close(fd);
    } else {
        number = PyLong_FromLong(fd);
        data = upload || PyErr_Occurred() ? Py_XNewRef((PyObject *)upload) : as_bytes(self, size);
        if (number && data)
            done = CALL((PyObject *)self, N_WELCOME, number, data, seat, NULL);
        else
            close(fd);
        Py_XDECREF(data);
        Py_XDECREF(number);
        Py_XDECREF((PyObject *)upload);
        return done;
    }
    Py_XDECREF((PyObject *)upload);
    field_set(seat, self->seat[SEAT_SERVING], Py_False);
    return done;
}

/* As many connections as there were lately: an accept that finds nothing costs as much as one that does, and the
 * listener tells again if there are more. */
int connection_accept(FastPath *self, PyObject *seat, PyObject *epoch)
{
    for (int taken = 0; taken < self->burst; taken++) {
        int fd = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC), accepting;

        if (fd < 0) {
            PyObject *number;
            int done, problem = errno;

            if (problem == EAGAIN || problem == EWOULDBLOCK || problem == EINTR || problem == ECONNABORTED) {
                self->burst = taken ? taken : 1;
                return 0;
            }
            number = PyLong_FromLong(problem);
            done = number ? CALL((PyObject *)self, N_REFUSED, number, NULL) : -1;
            Py_XDECREF(number);
            return done;
        }
        if (field_add(seat, self->seat[SEAT_ACCEPTED], 1) < 0) {
            close(fd);
            return -1;
        }
        if (meet(self, fd, seat) < 0)
            return -1;
        accepting = is_true(self, self->objects[POLLER], N_ACCEPTING);
        if (accepting <= 0)
            return accepting;
        if (!fastpath_leads(self, epoch))
            return 0;
    }
    self->burst = self->burst * 2 < ACCEPT_BURST ? self->burst * 2 : ACCEPT_BURST;
    return 0;
}
