#include "fields.h"

#include <structmember.h>

/* As an attribute of the class, but borrowed: a reference is written into the object, and would make a copy of its page
 * in each worker.  NULL where there is none, or with an exception set. */
static PyObject *look_up(PyObject *type, const char *name)
{
    PyObject *bases = ((PyTypeObject *)type)->tp_mro, *key = PyUnicode_FromString(name), *found = NULL;

    for (Py_ssize_t index = 0; key && !found && !PyErr_Occurred() && index < PyTuple_GET_SIZE(bases); index++) {
        PyObject *names = ((PyTypeObject *)PyTuple_GET_ITEM(bases, index))->tp_dict;

        /* Classes that are Python's own may keep theirs elsewhere. */
        found = names ? PyDict_GetItemWithError(names, key) : NULL;
    }
    Py_XDECREF(key);
    return found;
}

int fields_find(PyObject *type, const char *const *names, Field *fields)
{
    if (!PyType_Check(type)) {
        PyErr_Format(PyExc_TypeError, "%R is no class", type);
        return -1;
    }
    for (; *names; names++, fields++) {
        PyObject *found = look_up(type, *names);

        if (!found && PyErr_Occurred())
            return -1;
        if (!found || Py_TYPE(found) != &PyMemberDescr_Type
                || ((PyMemberDescrObject *)found)->d_member->type != T_OBJECT_EX) {
            PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, *names);
            return -1;
        }
        *fields = ((PyMemberDescrObject *)found)->d_member->offset;
    }
    return 0;
}

/* The sum, or NULL with an exception set. */
static PyObject *sum(PyObject *before, long long number)
{
    long long value = before ? PyLong_AsLongLong(before) : 0;

    if (value == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLongLong(value + number);
}

int field_add(PyObject *object, Field field, long long number)
{
    PyObject *value = sum(field_get(object, field), number);

    if (!value)
        return -1;
    field_give(object, field, value);
    return 0;
}

int field_add_seconds(PyObject *object, Field field, double seconds)
{
    PyObject *before = field_get(object, field), *value;
    double number = before ? PyFloat_AsDouble(before) : 0;

    if (number == -1 && PyErr_Occurred())
        return -1;
    value = PyFloat_FromDouble(number + seconds);
    if (!value)
        return -1;
    field_give(object, field, value);
    return 0;
}

int item_increment(PyObject *list, Py_ssize_t index)
{
    PyObject *value;

    if (!PyList_Check(list) || index >= PyList_GET_SIZE(list)) {
        PyErr_SetString(PyExc_TypeError, "not a list of counts");
        return -1;
    }
    value = sum(PyList_GET_ITEM(list, index), 1);
    return value ? PyList_SetItem(list, index, value) : -1;
}
