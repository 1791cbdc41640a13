/* money.c - from CPU, memory and throughput to yuan.
 *
 * By use: what the requests consumed, at the unit prices; right when machines are shared and full.
 * By node: the machine is paid whether used or not, so its price is divided by what it carries;
 * right when a service has machines of its own. Both are yuan for a million requests. */
#include "prove.h"

#define FYUAN 1e15 /* femto-yuan in a yuan */

double money_use(const fen_price_book *b, double cpu_us, double rss_mb, double qps)
{
    double cpu_hours = cpu_us / 3600; /* a million requests: us each = s in all */
    double gb_hours = qps > 0 ? rss_mb / 1e3 * (1e6 / qps) / 3600 : 0;
    double yuan = cpu_hours * (double)b->cpu_core_hour_fyuan / FYUAN +
                  gb_hours * (double)b->mem_gb_hour_fyuan / FYUAN;
    if (b->request_on)
        yuan += 1000 * (double)b->request_1000_fyuan / FYUAN;
    return yuan;
}

double money_node_hour(const struct plan *p)
{
    return p->server_cores * (double)p->prices.cpu_core_hour_fyuan / FYUAN +
           p->node_gb * (double)p->prices.mem_gb_hour_fyuan / FYUAN;
}

double money_node(const struct plan *p, double qps)
{
    return qps > 0 ? money_node_hour(p) / 3600 / qps * 1e6 : 0;
}
