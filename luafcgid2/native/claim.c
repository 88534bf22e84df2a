/* A lock that is never waited for: what one thread has claimed, another leaves alone.
 *
 * As threading.Lock, of which connections use acquire(False) and release(); the GIL makes each of them one step. */
#include "fastpath.h"

PyDoc_STRVAR(acquire_doc, "acquire(blocking)\n--\n\nWhether it is ours now; it never waits.");

static PyObject *acquire(Claim *self, PyObject *Py_UNUSED(blocking))
{
    int taken = !self->held;

    self->held = 1;
    return PyBool_FromLong(taken);
}

PyDoc_STRVAR(release_doc, "release()\n--\n\nLet go of it.");

static PyObject *release(Claim *self, PyObject *Py_UNUSED(ignored))
{
    self->held = 0;
    Py_RETURN_NONE;
}

static void dealloc(Claim *self)
{
    PyTypeObject *type = Py_TYPE(self);

    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"acquire", (PyCFunction)acquire, METH_O, acquire_doc},
    {"release", (PyCFunction)release, METH_NOARGS, release_doc},
    {NULL, NULL, 0, NULL},
};
PyDoc_STRVAR(type_doc, "Claim()\n--\n\nA lock that is never waited for.");
static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)type_doc}, {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec claim_spec = {
    .name = "luafcgid2._fastpath.Claim",
    .basicsize = sizeof(Claim),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
