/* The practical limit: a FastCGI responder on libfcgi that does as little as the workload lets it, which its argument
   names.  "hello" gives one canned answer and looks at nothing.
   It serves the socket that it inherits as descriptor 0 (FastCGI 1.0, section 2.2), one request at a time. */
#include <fcgiapp.h>
#include <stdio.h>
#include <string.h>

#define PIECE 65536
#define PIECES 160
#define ROWS 2000
#define COUNT(array) (int)(sizeof(array) / sizeof(*(array)))

static const char ANSWER[] =
    "Status: 200 OK\r\n"
    "Content-Type: text/html\r\n"
    "Content-Length: 13\r\n"
    "\r\n"
    "Hello, world!";
static const char HEAD[] = "Status: 200 OK\r\nContent-Type: text/html\r\n\r\n";
static const char *const NAMES[] = {
    "QUERY_STRING",
    "REQUEST_METHOD",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "SCRIPT_NAME",
    "REQUEST_URI",
    "DOCUMENT_URI",
    "DOCUMENT_ROOT",
    "SERVER_PROTOCOL",
    "REQUEST_SCHEME",
    "GATEWAY_INTERFACE",
    "SERVER_SOFTWARE",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "SERVER_ADDR",
    "SERVER_PORT",
    "SERVER_NAME",
    "REDIRECT_STATUS",
    "SCRIPT_FILENAME",
    "HTTP_HOST",
    "HTTP_USER_AGENT",
    "HTTP_ACCEPT",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_ACCEPT_ENCODING",
    "HTTP_COOKIE",
    "HTTP_REFERER",
    "HTTP_CACHE_CONTROL",
    "HTTP_UPGRADE_INSECURE_REQUESTS",
    "HTTP_DNT",
    "HTTP_X_FORWARDED_FOR",
};
static char buffer[PIECE];

static void hello(FCGX_Request *request)
{
    FCGX_PutStr(ANSWER, sizeof ANSWER - 1, request->out);
}

static void env(FCGX_Request *request)
{
    int bytes = 0, i;

    for (i = 0; i < COUNT(NAMES); i++) {
        const char *value = FCGX_GetParam(NAMES[i], request->envp);
        bytes += value ? (int)strlen(value) : 0;
    }
    FCGX_FPrintF(request->out, "%s%d variables, %d bytes", HEAD, COUNT(NAMES), bytes);
}

static void page(FCGX_Request *request)
{
    char piece[64];
    int row;

    FCGX_PutStr(HEAD, sizeof HEAD - 1, request->out);
    for (row = 1; row <= ROWS; row++)
        FCGX_PutStr(piece, snprintf(piece, sizeof piece, "<li>row number %012d</li>\n", row), request->out);
}

static void post(FCGX_Request *request)
{
    int bytes = 0, got;

    while ((got = FCGX_GetStr(buffer, sizeof buffer, request->in)) > 0)
        bytes += got;
    FCGX_FPrintF(request->out, "%s%d", HEAD, bytes);
}

static void download(FCGX_Request *request)
{
    int i;

    FCGX_PutStr(HEAD, sizeof HEAD - 1, request->out);
    for (i = 0; i < PIECES; i++)
        FCGX_PutStr(buffer, sizeof buffer, request->out);
}

static const struct {
    const char *name;
    void (*answer)(FCGX_Request *);
} WORKLOADS[] = {{"hello", hello}, {"env", env}, {"page", page}, {"post", post}, {"download", download}};

int main(int count, char **arguments)
{
    void (*answer)(FCGX_Request *) = NULL;
    FCGX_Request request;
    int i;

    for (i = 0; i < COUNT(WORKLOADS); i++)
        if (count == 2 && strcmp(arguments[1], WORKLOADS[i].name) == 0)
            answer = WORKLOADS[i].answer;
    for (i = 0; i < PIECE; i++)
        buffer[i] = "0123456789abcdef"[i % 16];
    if (answer == NULL || FCGX_Init() != 0 || FCGX_InitRequest(&request, 0, 0) != 0)
        return 1;
    while (FCGX_Accept_r(&request) == 0) {
        answer(&request);
        FCGX_Finish_r(&request);
    }
    return 0;
}
