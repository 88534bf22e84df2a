/* The Gather as Python has it: gathering.py goes on with one that the fast path has begun, tests make their own. */
#include "gather.h"

#include <structmember.h>

PyDoc_STRVAR(fill_doc, "fill(descriptor)\n--\n\nRead all that is there; the number of bytes.  Raises OSError.");

static PyObject *fill(Gather *self, PyObject *argument)
{
    long fd = PyLong_AsLong(argument);
    long long taken;

    if ((fd == -1 && PyErr_Occurred()) || gather_fill(self, (int)fd, &taken) < 0)
        return NULL;
    return PyLong_FromLongLong(taken);
}

PyDoc_STRVAR(content_doc, "content()\n--\n\nThe body, as far as it has come.");

static PyObject *content(Gather *self, PyObject *Py_UNUSED(ignored))
{
    if (self->size == self->room)
        return Py_NewRef(self->body);
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self->body), (Py_ssize_t)self->size);
}

PyDoc_STRVAR(type_doc,
    "Gather(flags, params, room, data)\n--\n\n"
    "A request with `params` and a body of `room` bytes, whose STDIN records begin with `data`.  Raises ValueError and "
    "MemoryError.");

static PyObject *new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *params, *data;
    Py_ssize_t room;
    int flags;

    if (keywords || !PyArg_ParseTuple(arguments, "iSnS", &flags, &params, &room, &data))
        return NULL;
    if (room < 1) {
        PyErr_Format(PyExc_ValueError, "Gather: a body of %zd bytes", room);
        return NULL;
    }
    return (PyObject *)gather_begin(type, flags, params, (size_t)room, (unsigned char *)PyBytes_AS_STRING(data),
                                    (size_t)PyBytes_GET_SIZE(data));
}

static void dealloc(Gather *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->params);
    Py_XDECREF(self->body);
    Py_XDECREF(self->rest);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *get_rest(Gather *self, void *Py_UNUSED(ignored))
{
    return Py_NewRef(self->rest ? self->rest : Py_None);
}

static PyObject *get_done(Gather *self, void *Py_UNUSED(ignored))
{
    return PyBool_FromLong(gather_is_done(self));
}

static PyObject *get_pouring(Gather *self, void *Py_UNUSED(ignored))
{
    if (!self->left && !self->padding)
        Py_RETURN_NONE;
    return Py_BuildValue("(inn)", 1, (Py_ssize_t)self->left, (Py_ssize_t)self->padding);
}

static PyObject *get_header(Gather *self, void *Py_UNUSED(ignored))
{
    return PyBytes_FromStringAndSize((char *)self->header, self->rest ? 0 : self->have);
}

static PyObject *get_since_mark(Gather *self, void *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(self->size - self->mark);
}

static PyMethodDef methods[] = {
    {"fill", (PyCFunction)fill, METH_O, fill_doc},
    {"content", (PyCFunction)content, METH_NOARGS, content_doc},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef members[] = {
    {"flags", T_INT, offsetof(Gather, flags), READONLY, "of BEGIN_REQUEST"},
    {"params", T_OBJECT, offsetof(Gather, params), READONLY, "of the request"},
    {"held", T_PYSSIZET, offsetof(Gather, room), READONLY, "bytes of memory that it takes"},
    {"size", T_PYSSIZET, offsetof(Gather, size), READONLY, "bytes of the body that have come"},
    {"moved", T_DOUBLE, offsetof(Gather, moved), READONLY, "when PROGRESS bytes had last come, monotonic seconds"},
    {"ended", T_BOOL, offsetof(Gather, ended), READONLY, "the input has ended"},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef attributes[] = {
    {"done", (getter)get_done, NULL, "no more is to be read", NULL},
    {"rest", (getter)get_rest, NULL, "what came and is not the body's, or None", NULL},
    {"pouring", (getter)get_pouring, NULL, "the record under way, as receiving.py has it, or None", NULL},
    {"header", (getter)get_header, NULL, "what has come of the next record's header", NULL},
    {"since_mark", (getter)get_since_mark, NULL, "bytes that have come since `moved`", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)type_doc}, {Py_tp_new, new}, {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods},
    {Py_tp_members, members}, {Py_tp_getset, attributes}, {0, NULL},
};

PyType_Spec gather_spec = {
    .name = "luafcgid2._fastpath.Gather",
    .basicsize = sizeof(Gather),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
