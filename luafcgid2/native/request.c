#include "request.h"

#include <string.h>

enum { BEGINNING = 20, SHORTEST = 41, FLAGS_AT = 10, STDIN = 5 };

/* BEGIN_REQUEST of a Responder, with the flags left out, and the first half of PARAMS' header. */
static const unsigned char beginning[BEGINNING] = {1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 1};
/* The empty PARAMS record and the empty STDIN record. */
static const unsigned char end_params[HEADER_SIZE] = {1, 4, 0, 1, 0, 0, 0, 0};
static const unsigned char end_stdin[HEADER_SIZE] = {1, 5, 0, 1, 0, 0, 0, 0};
/* The empty STDOUT record and END_REQUEST, status 0. */
static const unsigned char closing[CLOSING_SIZE] = {1, 6, 0, 1, 0, 0, 0, 0, 1, 3, 0, 1, 0, 8, 0, 0};

static size_t number(const unsigned char *at)
{
    return (size_t)at[0] << 8 | at[1];
}

/* `rest` is all behind the params: whether it ends the request, perhaps after one STDIN record with content. */
static int parse_rest(const unsigned char *rest, size_t size, Request *request)
{
    const unsigned char *header = rest + HEADER_SIZE;
    size_t length;

    if (size < 2 * HEADER_SIZE || memcmp(rest, end_params, HEADER_SIZE) != 0)
        return 0;
    request->body = (const char *)header + HEADER_SIZE;
    request->body_size = 0;
    if (size == 2 * HEADER_SIZE)
        return memcmp(header, end_stdin, HEADER_SIZE) == 0;
    length = number(header + 4);
    if (header[0] != 1 || header[1] != STDIN || number(header + 2) != 1 || length == 0)
        return 0;
    if (size != 3 * HEADER_SIZE + length + header[6])
        return 0;
    request->body_size = length;
    return memcmp(rest + size - HEADER_SIZE, end_stdin, HEADER_SIZE) == 0;
}

int request_parse(const unsigned char *data, size_t size, Request *request)
{
    size_t length, stop;

    if (size < SHORTEST || (data[FLAGS_AT] & ~KEEP_CONN) != 0
            || memcmp(data, beginning, FLAGS_AT) != 0
            || memcmp(data + FLAGS_AT + 1, beginning + FLAGS_AT + 1, BEGINNING - FLAGS_AT - 1) != 0)
        return 0;
    length = number(data + BEGINNING);
    stop = BEGINNING + 4 + length + data[BEGINNING + 2];
    if (length == 0 || stop > size)
        return 0;
    request->flags = data[FLAGS_AT];
    request->params = (const char *)data + BEGINNING + 4;
    request->params_size = length;
    return parse_rest(data + stop, size - stop, request);
}

/* A length of one byte or four; 0 where the data end before. */
static int take_length(const unsigned char **at, const unsigned char *stop, size_t *length)
{
    const unsigned char *from = *at;

    if (from == stop)
        return 0;
    *length = from[0];
    *at = from + 1;
    if (from[0] < 128)
        return 1;
    if (stop - from < 4)
        return 0;
    *length = (size_t)(from[0] & 127) << 24 | (size_t)from[1] << 16 | (size_t)from[2] << 8 | from[3];
    *at = from + 4;
    return 1;
}

int request_find(const Request *request, Wanted *wanted)
{
    static const char script[] = "SCRIPT_FILENAME", root[] = "DOCUMENT_ROOT";
    const unsigned char *at = (const unsigned char *)request->params, *stop = at + request->params_size;

    wanted->script = wanted->root = NULL;
    while (at < stop) {
        const unsigned char *pair = at;
        const char *name;
        size_t name_size, value_size;

        if (!take_length(&at, stop, &name_size) || !take_length(&at, stop, &value_size)
                || name_size > (size_t)(stop - at) || value_size > (size_t)(stop - at) - name_size)
            return 0;
        name = (const char *)at;
        at += name_size + value_size;
        if (name_size == sizeof script - 1 && memcmp(name, script, sizeof script - 1) == 0) {
            /* One byte for each length: as the key of a route begins. */
            wanted->script = name - (const char *)pair == 2 ? (const char *)pair : NULL;
            wanted->script_size = (size_t)(at - pair);
        } else if (name_size == sizeof root - 1 && memcmp(name, root, sizeof root - 1) == 0) {
            wanted->root = name + name_size;
            wanted->root_size = value_size;
        }
    }
    return wanted->script && wanted->root;
}

size_t request_frame(unsigned char *out, const char *content, size_t content_size)
{
    const unsigned char header[HEADER_SIZE] = {1, 6, 0, 1, content_size >> 8 & 255, content_size & 255, 0, 0};

    memcpy(out, header, HEADER_SIZE);
    memcpy(out + HEADER_SIZE, content, content_size);
    memcpy(out + HEADER_SIZE + content_size, closing, CLOSING_SIZE);
    return HEADER_SIZE + content_size + CLOSING_SIZE;
}
