/* svc_int.h - a running service, shared by the files of this room. */
#ifndef FEN_SVC_INT_H
#define FEN_SVC_INT_H

#include "obs/obs.h"

#include <fen/http.h>

#include <signal.h>
#include <stdatomic.h>

struct fen__service {
    fen_server *server, *admin;
    fen_service_config cfg;
    const char *admin_addr;
    int admin_rc;
    _Atomic bool admin_done, main_done;
    int64_t start_ns;
    struct fen__books_mark mark;
    struct sigaction old_term, old_int;
};

/* The admin server with its routes, or NULL. */
fen_server *fen__admin_new(struct fen__service *v);
/* "books: ..." and the bill by tenant and operation, on standard output. */
void fen__print_closing(struct fen__service *v);

#endif
