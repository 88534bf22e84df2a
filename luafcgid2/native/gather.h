/* See gather.c. */
#ifndef LUAFCGID2_GATHER_H
#define LUAFCGID2_GATHER_H

#include "fields.h"
#include "request.h"

/* Bytes that count as progress, as for timeouts.py. */
enum { PROGRESS = 1024 };

typedef struct {
    PyObject_HEAD
    int flags;
    PyObject *params, *body;
    /* What came and is Python's; or NULL. */
    PyObject *rest;
    size_t room, size;
    /* What is to come of the record under way: its content, then its padding; and what has come of the next header. */
    size_t left, padding;
    int have;
    unsigned char header[HEADER_SIZE];
    /* Of the last record: what the next ones are taken to be like. */
    size_t usual, usual_padding;
    /* `drained`: nothing was left to be read behind what has come. */
    char ended, drained;
    /* When, and how far it had come. */
    double moved;
    size_t mark;
} Gather;

extern PyType_Spec gather_spec;

/* As Gather() of Python, for a class of that kind; NULL with an exception set. */
Gather *gather_begin(PyTypeObject *type, int flags, PyObject *params, size_t room, const unsigned char *data,
                     size_t size);

/* Whether no more is to be read: the rest is Python's, or the input has ended. */
static inline int gather_is_done(const Gather *self)
{
    return self->rest || self->ended;
}

/* Whether all of the body is there, and the end of its stream, and nothing else was. */
int gather_is_whole(const Gather *self);

/* Reads all that is there; `taken` becomes the number of bytes.  0: there is no more now; 1: the rest is Python's;
 * -1 with an exception set. */
int gather_fill(Gather *self, int fd, long long *taken);

#endif
