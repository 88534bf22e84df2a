/* What the files of this module share: the FastPath object.  See fastpath.c for what it does. */
#ifndef LUAFCGID2_FASTPATH_H
#define LUAFCGID2_FASTPATH_H

#include "fields.h"
#include "gather.h"
#include "request.h"

#include <stdint.h>
#include <sys/epoll.h>

/* As the poller has them. */
enum { RECV_SIZE = 65536, MAX_EVENTS = 64, ACCEPT_BURST = 16, MAX_QUEUE = 256,
       SEND_SIZE = HEADER_SIZE + MAX_CONTENT + CLOSING_SIZE };

/* The slots that are used, in the order of their names in fastpath.c. */
enum { SEAT_NUMBER, SEAT_SERIAL, SEAT_SERVING, SEAT_POLLING, SEAT_REQUESTS, SEAT_ERRORS, SEAT_BUSY, SEAT_BYTES_IN,
       SEAT_BYTES_OUT, SEAT_ACCEPTED, SEAT_LATENCIES, SEAT_STARTED, SEAT_PARAMS, SEAT_STATE, SEAT_ENTRY, SEAT_HEAP,
       SEAT_SOCK, SEAT_REQUEST_ID, SEAT_STREAM, SEAT_SCRIPT, SEAT_BASE, SEAT_FIELDS };
enum { ENTRY_VERSION, ENTRY_IDLE, ENTRY_USED, ENTRY_FAILURE, ENTRY_GONE, ENTRY_ERRORS, ENTRY_BUSY, ENTRY_MOST,
       ENTRY_LATENCIES, ENTRY_FIELDS };
enum { STATE_VERSION, STATE_ENTRY, STATE_POOLED, STATE_BROKEN, STATE_SERVED, STATE_RUNNING, STATE_HANDLE, STATE_TARGET,
       STATE_ALLOWANCE, STATE_FIELDS };
enum { ROUTE_UNTIL, ROUTE_CHANGES, ROUTE_WANTED, ROUTE_ENTRY, ROUTE_PATH, ROUTE_FIELDS };
enum { RELAY_EPOCH, RELAY_SLEEPING, RELAY_FIELDS };
enum { TARGET_PENDING, TARGET_FIELDS };
enum { CONNECTION_SOCK, CONNECTION_REQUESTS, CONNECTION_BUFFER, CONNECTION_POURING, CONNECTION_OPEN, CONNECTION_OUTBOX,
       CONNECTION_SERVED, CONNECTION_PENDING, CONNECTION_LOCK, CONNECTION_GATHER, CONNECTION_FIELDS };

/* Objects that are given at the start, in the order of their names in fastpath.c. */
enum { CONNECTIONS, WAITING, BODIES, READY, ROUTES, PAGES, SHORT, HEAVY, CLOSING, RELAY, SERVER, POLLER, POOL,
       SEAT_TYPE, ENTRY_TYPE, STATE_TYPE, BOUNDED_TYPE, ROUTE_TYPE, RELAY_TYPE, TARGET_TYPE, CONNECTION_TYPE, CLAIM_TYPE,
       GATHER_TYPE, BUCKETS, CELLS, OBJECTS };

/* Attributes that are looked up by name, as in fastpath.c. */
enum { N_RUN, N_CHECKIN, N_LIFT, N_CONCLUDED, N_DRAINING, N_ACCEPTING, N_RESUME,
       N_WELCOME, N_UNSENT, N_SETTLE, N_AGAIN, N_REFUSED, N_CLOSE, NAMES };

typedef struct {
    PyObject_HEAD
    PyObject *objects[OBJECTS], *names[NAMES];
    int epoll, listener, elapsed;
    Py_ssize_t plain_params, plain_body, state_cell, started_cell, changes_cell;
    Py_buffer cells, buckets;
    Field seat[SEAT_FIELDS], entry[ENTRY_FIELDS], state[STATE_FIELDS], route[ROUTE_FIELDS], relay[RELAY_FIELDS],
        target[TARGET_FIELDS], connection[CONNECTION_FIELDS];
    int burst;
    /* What is ready and not dealt with, of all threads that lead: a new leader goes on where one is held up. */
    struct epoll_event queue[MAX_QUEUE];
    int first, queued;
    /* Of RECV_SIZE and SEND_SIZE bytes; filled and used up without letting go of the GIL, and without a call that could:
     * any object that is freed may run code of Python's. */
    unsigned char *in, *out;
} FastPath;

/* See claim.c. */
typedef struct {
    PyObject_HEAD
    int held;
} Claim;

extern PyType_Spec claim_spec;

/* Where a request came from. */
typedef struct {
    PyObject *seat;
    /* Its Connection; or NULL, and the number of a socket that is closed after the answer. */
    PyObject *connection;
    int fd;
    Request request;
    /* Its parts where they are objects already; or NULL. */
    PyObject *params, *body;
    size_t size;
} Call;

/* UNFIT: nothing was done, it is Python's; ANSWERED: `answer` is a bytes object to send, a new reference; LEFT:
 * `concluded` of Python has dealt with all the rest, and a socket without Connection is closed, or somebody else's;
 * perhaps an exception is set; FAILED: an exception is set. */
enum { FAILED = -1, UNFIT, ANSWERED, LEFT };

int crossing_make(FastPath *self, Call *call, PyObject **answer);

/* A fault of ours, with an exception set: closes a connection, and lets go of its lock. */
int connection_give_up(FastPath *self, Call *call, Claim *lock);
/* What becomes of a connection whose request has this outcome; `data` is what Python is to go on with.  Lets go of the
 * lock. */
int connection_conclude(FastPath *self, Call *call, Claim *lock, int outcome, PyObject *answer, PyObject *data);

/* Takes up a request that began with the `size` bytes that were read, and reads what is there of its body; a new
 * reference, or NULL where it is another kind, or with an exception set. */
Gather *upload_begin(FastPath *self, Call *call, size_t size);
/* As crossing_make; UNFIT also where it is not whole. */
int upload_answer(FastPath *self, Call *call, Gather *gather, PyObject **answer);
/* What a connection reads now; borrowed, or NULL. */
Gather *upload_of(FastPath *self, PyObject *connection);
/* Goes on with it, and lets go of the lock; 0, or -1 with an exception set. */
int upload_read(FastPath *self, Call *call, Gather *gather, Claim *lock);

/* Serves a connection that is ready; 0, or 1 where what comes is Python's, or -1 with an exception set. */
int connection_serve(FastPath *self, PyObject *connection, const struct epoll_event *event, PyObject *seat);
/* Accepts and serves; 0, or -1 with an exception set. */
int connection_accept(FastPath *self, PyObject *seat, PyObject *epoch);

/* Whether the thread should go on: nothing else is to be done before the next request. */
int fastpath_leads(FastPath *self, PyObject *epoch);

/* Whether an attribute of an object is true; -1 with an exception set. */
static inline int is_true(FastPath *self, PyObject *object, int name)
{
    PyObject *value = PyObject_GetAttr(object, self->names[name]);
    int truth = value ? PyObject_IsTrue(value) : -1;

    Py_XDECREF(value);
    return truth;
}

static inline int finished(PyObject *result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Calls a method whose result does not matter: 0, or -1 with an exception set. */
#define CALL(object, name, ...) finished(PyObject_CallMethodObjArgs(object, self->names[name], __VA_ARGS__))

static inline uint64_t *cells_of(FastPath *self)
{
    return self->cells.buf;
}

#endif
