/* orders.c - the order service: what each URL does. Every handler puts its deadline first; the
 * store and the back end inherit it, and a late answer becomes 504 by the return code alone. */
#include "serve/orders.h"

#include <fen/err.h>
#include <fen/json.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    LIST_DEFAULT = 20,
    QUANTITY_MAX = 1000000,
};
#define PRICE_CENTS_MAX INT64_C(1000000000000)

#define ORDER_FIELDS(F)                                                                            \
    F(i64, id, required)                                                                           \
    F(i64, customer, required)                                                                     \
    F(chars, item, required)                                                                       \
    F(i64, quantity, required)                                                                     \
    F(i64, price_cents, required)                                                                  \
    F(chars, status, required)                                                                     \
    F(i64, created_at, required)
FEN_JSON_STRUCT(order, ORDER_FIELDS)

/* What a client may say about a new order. */
struct wish {
    int64_t customer;
    fen_slice item;
    int64_t quantity, price_cents;
};
#define WISH_FIELDS(F)                                                                             \
    F(i64, customer, required)                                                                     \
    F(slice, item, required)                                                                       \
    F(i64, quantity, required)                                                                     \
    F(i64, price_cents, required)
FEN_JSON_STRUCT(wish, WISH_FIELDS)

struct quote {
    int64_t id, price;
};
#define QUOTE_FIELDS(F) F(i64, id, required) F(i64, price, required)
FEN_JSON_STRUCT(quote, QUOTE_FIELDS)

/* The id of the path: 0, or 1 after a reply was sent. */
static int path_id(fen_exchange *x, int64_t *ret_id)
{
    int rc = fen_path_i64(x, "id", ret_id);
    if (rc == 0 && *ret_id >= 1)
        return 0;
    fen_reply_error(x, 400, rc == -EINVAL ? "id must be a whole number" : "id is out of range");
    return 1;
}

/* GET /orders/{id} */
static int get_order(fen_exchange *x, void *arg)
{
    const struct orders *o = arg;
    int64_t id;
    struct order found;
    fen_exchange_timeout(x, o->deadline_ns);
    if (path_id(x, &id))
        return 0;
    int rc = store_get(o->store, id, &found);
    if (rc == -ENOENT)
        return fen_reply_error(x, 404, "no such order");
    return rc < 0 ? rc : fen_reply_json(x, 200, order_json_encode, &found);
}

struct order_list {
    const struct order *orders;
    int n;
};

static void encode_list(fen_buf *b, const void *obj)
{
    const struct order_list *l = obj;
    fen_buf_put(b, "[", 1);
    for (int i = 0; i < l->n; i++) {
        if (i)
            fen_buf_put(b, ",", 1);
        order_json_encode(b, &l->orders[i]);
    }
    fen_buf_put(b, "]", 1);
}

/* GET /orders?customer=N&limit=M: the newest first */
static int list_orders(fen_exchange *x, void *arg)
{
    const struct orders *o = arg;
    int64_t customer, limit = LIST_DEFAULT;
    fen_exchange_timeout(x, o->deadline_ns);
    int rc = fen_query_i64(x, "customer", &customer);
    if (rc < 0 || customer < 1)
        return fen_reply_error(x, 400,
                               rc == -ENOENT ? "the parameter customer is missing"
                                             : "customer must be a whole number from 1");
    rc = fen_query_i64(x, "limit", &limit);
    if ((rc < 0 && rc != -ENOENT) || limit < 1 || limit > STORE_LIST_MAX)
        return fen_reply_error(x, 400, "limit must be a whole number from 1 to 100");
    struct order *found =
        fen_arena_alloc(fen_exchange_arena(x), (size_t)limit * sizeof(struct order));
    if (!found)
        return -ENOMEM;
    rc = store_list(o->store, customer, (int)limit, found);
    if (rc < 0)
        return rc;
    struct order_list l = {found, rc};
    return fen_reply_json(x, 200, encode_list, &l);
}

/* NULL, or what is wrong with it. */
static const char *objection(const struct wish *w)
{
    if (w->customer < 1)
        return "customer must be 1 or more";
    if (w->item.n < 1 || w->item.n > ORDER_ITEM_MAX)
        return "item must have 1 to 128 bytes";
    for (size_t i = 0; i < w->item.n; i++)
        if ((unsigned char)w->item.p[i] < 0x20 || w->item.p[i] == 0x7f)
            return "item must not contain control characters";
    if (w->quantity < 1 || w->quantity > QUANTITY_MAX)
        return "quantity must be from 1 to 1000000";
    if (w->price_cents < 0 || w->price_cents > PRICE_CENTS_MAX)
        return "price_cents must be from 0 to 1000000000000";
    return NULL;
}

static struct order order_from(const struct wish *w)
{
    struct order o = {.customer = w->customer,
                      .quantity = w->quantity,
                      .price_cents = w->price_cents,
                      .status = "new",
                      .created_at = (int64_t)time(NULL)};
    memcpy(o.item, w->item.p, w->item.n); /* zeros behind it: o is zeroed, n was checked */
    return o;
}

/* POST /orders */
static int post_order(fen_exchange *x, void *arg)
{
    const struct orders *o = arg;
    struct wish w;
    char why[160];
    fen_exchange_timeout(x, o->deadline_ns);
    int rc = wish_json_decode(fen_body(x), fen_exchange_arena(x), &w, why, sizeof why);
    if (rc == -ENOMEM)
        return rc;
    if (rc < 0)
        return fen_reply_error(x, 400, why);
    const char *no = objection(&w);
    if (no)
        return fen_reply_error(x, 400, no);
    struct order made = order_from(&w);
    rc = store_add(o->store, &made);
    if (rc == -EBUSY)
        return fen_reply_error(x, 503, "too many orders are waiting to be stored");
    if (rc < 0)
        return rc;
    char where[40];
    snprintf(where, sizeof where, "/orders/%" PRId64, made.id);
    rc = fen_reply_header(x, "Location", where);
    return rc < 0 ? rc : fen_reply_json(x, 201, order_json_encode, &made);
}

/* GET /quotes/{id}: what the back end says, in our own words */
static int get_quote(fen_exchange *x, void *arg)
{
    const struct orders *o = arg;
    struct upstream_answer a;
    struct quote q;
    char path[40], why[8];
    int64_t id;
    fen_exchange_timeout(x, o->deadline_ns);
    if (path_id(x, &id))
        return 0;
    fen_buf b = fen_buf_fixed(path, sizeof path - 1);
    fen_buf_put(&b, "/quote/", 7);
    fen_buf_put_i64(&b, id);
    path[b.n] = 0;
    int rc = upstream_get(o->backend, path, &a);
    if (rc == -ETIMEDOUT || rc == -ECANCELED || rc == -ENOMEM)
        return rc;
    if (rc < 0)
        return fen_reply_error(x, 502, "the back end cannot be reached or does not speak HTTP");
    if (a.status == 404)
        return fen_reply_error(x, 404, "no such quote");
    if (a.status != 200 ||
        quote_json_decode(a.body, fen_exchange_arena(x), &q, why, sizeof why) < 0 || q.id != id)
        return fen_reply_error(x, 502, "the back end gave no such quote");
    return fen_reply_json(x, 200, quote_json_encode, &q);
}

/* GET / */
static int say_ok(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

int orders_routes(fen_server *s, struct orders *o)
{
    const struct {
        const char *pattern;
        fen_handler fn;
    } routes[] = {
        {"GET /", say_ok},
        {"GET /orders/{id}", get_order},
        {"GET /orders", list_orders},
        {"POST /orders", post_order},
        {"GET /quotes/{id}", get_quote},
    };
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (routes[i].fn == get_quote && !o->backend)
            continue;
        int rc = fen_route(s, routes[i].pattern, routes[i].fn, o);
        if (rc < 0)
            return rc;
    }
    return 0;
}
