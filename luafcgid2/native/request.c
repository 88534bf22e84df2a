#include "request.h"

#include <string.h>

enum { BEGINNING = 20, SHORTEST = 41, FLAGS_AT = 10 };

/* BEGIN_REQUEST of a Responder, with the flags left out, and the first half of PARAMS' header. */
static const unsigned char beginning[BEGINNING] = {1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 1};
/* The empty PARAMS record. */
static const unsigned char end_params[HEADER_SIZE] = {1, 4, 0, 1, 0, 0, 0, 0};
const unsigned char request_end[HEADER_SIZE] = {1, 5, 0, 1, 0, 0, 0, 0};
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
        return memcmp(header, request_end, HEADER_SIZE) == 0;
    length = number(header + 4);
    if (header[0] != 1 || header[1] != STDIN || number(header + 2) != 1 || length == 0)
        return 0;
    if (size != 3 * HEADER_SIZE + length + header[6])
        return 0;
    request->body_size = length;
    return memcmp(rest + size - HEADER_SIZE, request_end, HEADER_SIZE) == 0;
}

/* The beginning up to the params; 0, or where they end. */
static size_t parse_params(const unsigned char *data, size_t size, Request *request)
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
    return stop;
}

int request_parse(const unsigned char *data, size_t size, Request *request)
{
    size_t stop = parse_params(data, size, request);

    return stop && parse_rest(data + stop, size - stop, request);
}

int request_begins(const unsigned char *data, size_t size, Request *request)
{
    size_t stop = parse_params(data, size, request);

    if (!stop || size - stop < HEADER_SIZE || memcmp(data + stop, end_params, HEADER_SIZE) != 0)
        return 0;
    request->body = (const char *)data + stop + HEADER_SIZE;
    request->body_size = size - stop - HEADER_SIZE;
    return 1;
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

typedef struct {
    /* Where the pair begins, and its parts. */
    const unsigned char *start;
    const char *name, *value;
    size_t name_size, value_size;
} Pair;

/* The pair at `at`, which moves on behind it; 0 where it is cut off. */
static int take_pair(const unsigned char **at, const unsigned char *stop, Pair *pair)
{
    pair->start = *at;
    if (!take_length(at, stop, &pair->name_size) || !take_length(at, stop, &pair->value_size)
            || pair->name_size > (size_t)(stop - *at) || pair->value_size > (size_t)(stop - *at) - pair->name_size)
        return 0;
    pair->name = (const char *)*at;
    pair->value = pair->name + pair->name_size;
    *at += pair->name_size + pair->value_size;
    return 1;
}

#define IS_NAMED(pair, literal) \
    ((pair).name_size == sizeof literal - 1 && memcmp((pair).name, literal, sizeof literal - 1) == 0)

int request_find(const Request *request, Wanted *wanted)
{
    const unsigned char *at = (const unsigned char *)request->params, *stop = at + request->params_size;
    Pair pair;

    wanted->script = wanted->root = NULL;
    while (at < stop) {
        if (!take_pair(&at, stop, &pair))
            return 0;
        if (IS_NAMED(pair, "SCRIPT_FILENAME")) {
            /* One byte for each length: as the key of a route begins. */
            wanted->script = pair.name - (const char *)pair.start == 2 ? (const char *)pair.start : NULL;
            wanted->script_size = (size_t)(at - pair.start);
        } else if (IS_NAMED(pair, "DOCUMENT_ROOT")) {
            wanted->root = pair.value;
            wanted->root_size = pair.value_size;
        }
    }
    return wanted->script && wanted->root;
}

size_t request_length(const Request *request)
{
    const unsigned char *at = (const unsigned char *)request->params, *stop = at + request->params_size;
    size_t length = 0;
    Pair pair;

    while (at < stop && take_pair(&at, stop, &pair)) {
        if (!IS_NAMED(pair, "CONTENT_LENGTH"))
            continue;
        length = 0;
        /* Nine digits: what does not fit in 32 bits is not kept in memory anyway. */
        if (pair.value_size > 9)
            return 0;
        for (size_t index = 0; index < pair.value_size; index++) {
            if (pair.value[index] < '0' || pair.value[index] > '9')
                return 0;
            length = length * 10 + (size_t)(pair.value[index] - '0');
        }
    }
    return length;
}

size_t request_frame(unsigned char *out, const char *content, size_t content_size)
{
    const unsigned char header[HEADER_SIZE] = {1, 6, 0, 1, content_size >> 8 & 255, content_size & 255, 0, 0};

    memcpy(out, header, HEADER_SIZE);
    memcpy(out + HEADER_SIZE, content, content_size);
    memcpy(out + HEADER_SIZE + content_size, closing, CLOSING_SIZE);
    return HEADER_SIZE + content_size + CLOSING_SIZE;
}
