#include "fields.h"

#include <structmember.h>

int fields_find(PyObject *type, const char *const *names, Field *fields)
{
    for (; *names; names++, fields++) {
        PyObject *found = PyObject_GetAttrString(type, *names);

        if (!found && PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, *names);
        if (!found)
            return -1;
        if (Py_TYPE(found) != &PyMemberDescr_Type
                || ((PyMemberDescrObject *)found)->d_member->type != T_OBJECT_EX) {
            PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, *names);
            Py_DECREF(found);
            return -1;
        }
        *fields = ((PyMemberDescrObject *)found)->d_member->offset;
        Py_DECREF(found);
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
