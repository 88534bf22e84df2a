/* One FastCGI request in one read, and its answer in one send: bytes only, nothing of Python.
 *
 * In: what one recv gave.  Out: where in it the params and the body are, if it is one whole request of a Responder with
 * id 1, as nginx and lighttpd send a GET or a small POST; the records around an answer.  The rules, and what they leave
 * to others, are those of records.py (`whole_request`) and delivery.py; FastCGI 1.0, sections 3.3, 5.1, 5.3 and 5.5.
 */
#ifndef LUAFCGID2_REQUEST_H
#define LUAFCGID2_REQUEST_H

#include <stddef.h>

enum { STDIN = 5, HEADER_SIZE = 8, KEEP_CONN = 1, MAX_CONTENT = 65528, CLOSING_SIZE = 24 };

typedef struct {
    int flags;
    const char *params, *body;
    size_t params_size, body_size;
} Request;

/* Whether `data` is such a request; fills in `request`, which points into `data`. */
int request_parse(const unsigned char *data, size_t size, Request *request);

/* The same where the params are whole, and the body is on its way: `body` is what has come behind the params. */
int request_begins(const unsigned char *data, size_t size, Request *request);

/* The empty STDIN record. */
extern const unsigned char request_end[HEADER_SIZE];

/* How long the body is said to be; 0 where that is unknown. */
size_t request_length(const Request *request);

/* Where in the params what the server itself reads stands: the whole pair of SCRIPT_FILENAME, lengths and all, and the
 * value of DOCUMENT_ROOT. */
typedef struct {
    const char *script, *root;
    size_t script_size, root_size;
} Wanted;

/* Walks all pairs (section 3.4); of a repeated name the last one wins.  0 where they are cut off, where one of the two is
 * absent, or where SCRIPT_FILENAME is longer than 127 bytes. */
int request_find(const Request *request, Wanted *wanted);

/* Writes STDOUT's header, the content, and what ends the request; `content_size` is MAX_CONTENT at most, and `out` has
 * room for HEADER_SIZE + content_size + CLOSING_SIZE bytes, the number that is returned. */
size_t request_frame(unsigned char *out, const char *content, size_t content_size);

#endif
