/* One large body while it arrives: read from the socket straight to where the script's string is made of it.
 *
 * In: a request of a Responder with id 1 whose params are whole, how long its body is said to be, a descriptor.  Out:
 * the body in one bytes object, and what came behind it, or instead of it, which is Python's.  The headers between the
 * pieces of content are received into buffers of their own, as if each record were as long as the one before it, which
 * is what nginx and lighttpd send; where one is not, what was received behind its header is copied to where it belongs.
 * FastCGI 1.0, sections 3.3 and 5.3.
 *
 * The GIL is held all the time, and whoever calls has the connection's lock; nothing here waits.
 */
#define _GNU_SOURCE 1
#include "clock.h"
#include "gather.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* SPARE: more than can come where only the end is to come, so that a read tells whether something is behind it. */
enum { RECORDS = 8, MAX_PADDING = 255, SPARE = 16 };

/* Where one read puts what it gets: content, then by turns the padding and header in front of a record, and the content
 * of it; the last record has none. */
typedef struct {
    unsigned char between[RECORDS][MAX_PADDING + HEADER_SIZE + SPARE];
    struct iovec parts[1 + 2 * RECORDS];
    int count;
    /* Of all parts; and of the padding that each record is taken to have. */
    size_t size, padding;
} Plan;

static size_t smaller(size_t one, size_t other)
{
    return one < other ? one : other;
}

static unsigned char *end_of(const Gather *self)
{
    return (unsigned char *)PyBytes_AS_STRING(self->body) + self->size;
}

static void plan_part(Plan *plan, void *at, size_t size)
{
    plan->parts[plan->count++] = (struct iovec){at, size};
    plan->size += size;
}

static void plan_read(const Gather *self, Plan *plan)
{
    unsigned char *at = end_of(self) + self->left;
    size_t room = self->room - self->size - self->left, content, before;

    plan->count = 0;
    plan->size = 0;
    plan->padding = self->usual_padding;
    plan_part(plan, at - self->left, self->left);
    for (int record = 0; record < RECORDS; record++) {
        before = record ? plan->padding + HEADER_SIZE : self->padding + HEADER_SIZE - (size_t)self->have;
        content = record + 1 < RECORDS ? smaller(self->usual, room) : 0;
        plan_part(plan, plan->between[record], content ? before : before + SPARE);
        plan_part(plan, at, content);
        if (!content)
            break;
        at += content;
        room -= content;
    }
}

/* Keeps what is Python's. */
static int refuse(Gather *self, const unsigned char *data, size_t size)
{
    PyObject *more = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);

    if (!more)
        return -1;
    if (self->rest)
        PyBytes_ConcatAndDel(&self->rest, more);
    else
        self->rest = more;
    return self->rest ? 0 : -1;
}

/* A header is whole: whether its record goes on with the body. */
static int begin_record(Gather *self)
{
    const unsigned char *header = self->header;
    size_t length = (size_t)header[4] << 8 | header[5];

    if (header[0] != 1 || header[1] != STDIN || (header[2] << 8 | header[3]) != 1 || length == 0
            || length > self->room - self->size)
        return 0;
    self->left = self->usual = length;
    self->padding = self->usual_padding = header[6];
    self->have = 0;
    return 1;
}

/* Deals with bytes that lie one behind the other; 0, or -1 with an exception set. */
static int absorb(Gather *self, const unsigned char *data, size_t size)
{
    while (size) {
        size_t taken;

        if (self->rest)
            return refuse(self, data, size);
        if (self->left) {
            taken = smaller(self->left, size);
            memcpy(end_of(self), data, taken);
            self->size += taken;
            self->left -= taken;
        } else if (self->padding) {
            taken = smaller(self->padding, size);
            self->padding -= taken;
        } else {
            taken = smaller(HEADER_SIZE - (size_t)self->have, size);
            memcpy(self->header + self->have, data, taken);
            self->have += (int)taken;
            if (self->have == HEADER_SIZE && !begin_record(self) && refuse(self, self->header, HEADER_SIZE) < 0)
                return -1;
        }
        data += taken;
        size -= taken;
    }
    return 0;
}

/* What came behind a header that is not as expected: `size` bytes, from `part` on. */
static int absorb_parts(Gather *self, const struct iovec *part, size_t size)
{
    unsigned char *data = PyMem_RawMalloc(size);
    int done;

    if (!data) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t copied = 0; copied < size; part++) {
        size_t taken = smaller(part->iov_len, size - copied);

        memcpy(data + copied, part->iov_base, taken);
        copied += taken;
    }
    done = absorb(self, data, size);
    PyMem_RawFree(data);
    return done;
}

/* `size` bytes were read as planned. */
static int accept_read(Gather *self, const Plan *plan, size_t size)
{
    size_t taken = smaller(self->left, size);

    self->size += taken;
    self->left -= taken;
    size -= taken;
    for (int index = 1; size; index += 2) {
        const struct iovec *between = &plan->parts[index], *content = between + 1;

        taken = smaller(between->iov_len, size);
        if (absorb(self, between->iov_base, taken) < 0)
            return -1;
        size -= taken;
        if (size && (self->rest || self->left != content->iov_len || self->padding != plan->padding))
            return absorb_parts(self, content, size);
        taken = smaller(content->iov_len, size);
        self->size += taken;
        self->left -= taken;
        size -= taken;
    }
    return 0;
}

static void note_progress(Gather *self)
{
    if (self->size - self->mark < (size_t)PROGRESS)
        return;
    self->moved = monotonic();
    self->mark = self->size;
}

int gather_fill(Gather *self, int fd, long long *taken)
{
    *taken = 0;
    while (!gather_is_done(self)) {
        Plan plan;
        struct msghdr message = {.msg_iov = plan.parts};
        ssize_t size;

        plan_read(self, &plan);
        message.msg_iovlen = (size_t)plan.count;
        size = recvmsg(fd, &message, MSG_DONTWAIT);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0) {
            self->drained = 1;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return 0;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        *taken += size;
        self->ended = size == 0;
        if (accept_read(self, &plan, (size_t)size) < 0) {
            /* What was read is lost, and with it where the next record begins. */
            self->ended = 1;
            return -1;
        }
        note_progress(self);
        self->drained = (size_t)size < plan.size;
        if (self->drained && !gather_is_done(self))
            return 0;
    }
    return 1;
}

Gather *gather_begin(PyTypeObject *type, int flags, PyObject *params, size_t room, const unsigned char *data,
                     size_t size)
{
    Gather *self = (Gather *)type->tp_alloc(type, 0);

    if (!self)
        return NULL;
    self->flags = flags;
    self->params = Py_NewRef(params);
    self->room = self->usual = room;
    self->moved = monotonic();
    self->body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (!self->body || absorb(self, data, size) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->mark = self->size;
    return self;
}

int gather_is_whole(const Gather *self)
{
    return self->drained && self->rest && self->size == self->room && PyBytes_GET_SIZE(self->rest) == HEADER_SIZE
        && memcmp(PyBytes_AS_STRING(self->rest), request_end, HEADER_SIZE) == 0;
}
