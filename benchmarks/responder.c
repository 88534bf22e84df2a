/* The practical limit: a FastCGI responder on libfcgi that gives one canned answer and looks at nothing.
   It serves the socket that it inherits as descriptor 0 (FastCGI 1.0, section 2.2), one request at a time. */
#include <fcgiapp.h>

static const char ANSWER[] =
    "Status: 200 OK\r\n"
    "Content-Type: text/html\r\n"
    "Content-Length: 13\r\n"
    "\r\n"
    "Hello, world!";

int main(void)
{
    FCGX_Request request;

    if (FCGX_Init() != 0 || FCGX_InitRequest(&request, 0, 0) != 0)
        return 1;
    while (FCGX_Accept_r(&request) == 0) {
        FCGX_PutStr(ANSWER, sizeof ANSWER - 1, request.out);
        FCGX_Finish_r(&request);
    }
    return 0;
}
