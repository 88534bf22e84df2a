/* The fields of Python objects whose classes have __slots__, without a look-up by name.
 *
 * In: the class and the names of its slots.  Out: where they lie in each object; get and set by that.  A class that
 * changes without this module being built again is found by name, so it does no harm, and a slot that is gone is an error
 * at the start.  The GIL is held by who calls.
 */
#ifndef LUAFCGID2_FIELDS_H
#define LUAFCGID2_FIELDS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030A0000
static inline PyObject *Py_NewRef(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static inline PyObject *Py_XNewRef(PyObject *object)
{
    Py_XINCREF(object);
    return object;
}
#endif

typedef Py_ssize_t Field;

/* Fills in `fields`, one for each of `names`, which end with NULL; -1 with an exception set. */
int fields_find(PyObject *type, const char *const *names, Field *fields);

/* Borrowed; NULL, without an exception, where nothing is set. */
static inline PyObject *field_get(PyObject *object, Field field)
{
    return *(PyObject **)((char *)object + field);
}

/* Takes over the reference to `value`. */
static inline void field_give(PyObject *object, Field field, PyObject *value)
{
    PyObject **at = (PyObject **)((char *)object + field), *before = *at;

    *at = value;
    Py_XDECREF(before);
}

static inline void field_set(PyObject *object, Field field, PyObject *value)
{
    Py_INCREF(value);
    field_give(object, field, value);
}

/* Adds to an int, and to a float; -1 with an exception set. */
int field_add(PyObject *object, Field field, long long number);
int field_add_seconds(PyObject *object, Field field, double seconds);
/* The same to an int in a list. */
int item_increment(PyObject *list, Py_ssize_t index);

#endif
