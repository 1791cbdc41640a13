/* account.c - accounts are pairs of operation and tenant; both and their product are bounded.
 *
 * Tables only grow. Readers go without a lock: every entry is complete before the store that makes
 * it reachable (release) and is not written again. Writers hold `lock`, which nobody takes once the
 * tenants and pairs of a service are known, and which a flood of unknown names does not reach
 * either: when max_tenants are known, a miss is answered from a plain count.
 *
 * Bounds in time: at most FEN__TENANTS_MAX of TENANT_SLOTS slots are ever taken, so a probe
 * sequence ends; even names chosen to collide cost one 64-bit comparison for each known tenant.
 *
 * First come, first kept: a flood of names can fill the table before the real tenants arrive. That
 * is a question of who may name a tenant, which the caller decides before it asks for an account.
 * Rejected: forgetting the least used tenant, since ids are in blocks and rows that live longer.
 *
 * When FEN__ROWS_MAX pairs exist, further ones go to (operation, "_other"), which every operation
 * gets when it is registered; account 0 is ("_other", "_other"). */
#include "meter/meter.h"

#include "base/tas.h"
#include "mem/mem.h"

#include <assert.h>
#include <string.h>

#define TENANT_IDS (FEN__TENANTS_MAX + FEN__TENANT_FIRST)
#define TENANT_SLOTS 1024

struct tenant {
    uint64_t hash;
    uint32_t n;
    char name[FEN__TENANT_BYTES + 1];
};

struct operation {
    struct fen__hist *latency;
    char name[FEN__OPERATION_BYTES];
};

static_assert(FEN__OPERATIONS_MAX < FEN__ROWS_MAX, "each operation has room for its _other");
static_assert(2 * FEN__TENANTS_MAX < TENANT_SLOTS, "probing ends at an empty slot");

static fen__tas lock; /* the writers of everything below */
static uint32_t max_tenants = FEN__TENANTS_DEFAULT;

static struct tenant tenants[TENANT_IDS] = {
    [FEN__TENANT_OTHER] = {.name = "_other"},
    [FEN__TENANT_NONE] = {.name = "_none"},
    [FEN__TENANT_INVALID] = {.name = "_invalid"},
};
static uint32_t tenants_n = FEN__TENANT_FIRST;
static uint16_t tenant_slots[TENANT_SLOTS]; /* tenant id, 0: empty */

static struct operation operations[FEN__OPERATIONS_MAX] = {{.name = "_other"}};
static uint32_t operations_n = 1;

static struct {
    uint16_t operation, tenant;
} accounts[FEN__ROWS_MAX]; /* [0] is _other x _other */
static uint32_t accounts_n = 1;
static uint16_t account_of[FEN__OPERATIONS_MAX][TENANT_IDS]; /* 0: none yet */

/* ---- operations ---- */

static uint32_t find_operation(const char *name, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && strcmp(operations[i].name, name) != 0)
        i++;
    return i;
}

/* Called with the lock held; the pair must be new. 0 when the table is full. */
static uint32_t add_account(uint32_t op, uint32_t tenant)
{
    uint32_t id = accounts_n;
    if (id == FEN__ROWS_MAX)
        return 0;
    accounts[id].operation = (uint16_t)op;
    accounts[id].tenant = (uint16_t)tenant;
    __atomic_store_n(&accounts_n, id + 1, __ATOMIC_RELEASE); /* pairs with fen__meter_accounts */
    /* pairs with the load in fen__meter_account */
    __atomic_store_n(&account_of[op][tenant], (uint16_t)id, __ATOMIC_RELEASE);
    return id;
}

/* Called with the lock held. Gives latency away when it adds an operation. */
static uint32_t add_operation(const char *name, struct fen__hist **latency)
{
    uint32_t id = find_operation(name, operations_n);
    if (id < operations_n)
        return id;
    /* Pairs may have filled the accounts: without its own _other an operation cannot exist. */
    if (id == FEN__OPERATIONS_MAX || accounts_n == FEN__ROWS_MAX)
        return 0;
    memcpy(operations[id].name, name, strlen(name) + 1); /* the caller cut it to fit */
    operations[id].latency = *latency;
    *latency = NULL;
    /* pairs with fen__meter_operations */
    __atomic_store_n(&operations_n, id + 1, __ATOMIC_RELEASE);
    add_account(id, FEN__TENANT_OTHER);
    return id;
}

uint32_t fen__meter_operation(const char *name)
{
    char clean[FEN__OPERATION_BYTES];
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof clean; n++)
        clean[n] = name[n] < ' ' || name[n] > '~' ? '?' : name[n];
    clean[n] = 0;
    struct fen__hist *latency = fen__mem_calloc(sizeof *latency); /* not under the lock */
    fen__tas_lock(&lock);
    uint32_t id = add_operation(clean, &latency);
    fen__tas_unlock(&lock);
    fen__mem_free(latency, latency ? sizeof *latency : 0);
    return id;
}

void fen__meter_latency(uint32_t op, int64_t ns)
{
    struct fen__hist *h = operations[op < FEN__OPERATIONS_MAX ? op : 0].latency;
    if (h)
        fen__hist_record(h, ns);
}

/* ---- tenants ---- */

/* Not for secrets; collisions chosen by an adversary are bounded by the size of the table. */
static uint64_t hash_of(const char *p, size_t n)
{
    const uint64_t k = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t h = n * k, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * k;
        h ^= h >> 32;
    }
    w = 0;
    for (size_t i = 0; i < n; i++)
        w |= (uint64_t)(unsigned char)p[i] << (8 * i);
    h = (h ^ w) * k;
    return h ^ h >> 29;
}

/* The id of a known tenant, else 0. */
static uint32_t find_tenant(fen_slice name, uint64_t hash)
{
    for (uint32_t at = (uint32_t)hash % TENANT_SLOTS;; at = (at + 1) % TENANT_SLOTS) {
        /* pairs with the release store in add_tenant: the name is seen before the id */
        uint32_t id = __atomic_load_n(&tenant_slots[at], __ATOMIC_ACQUIRE);
        if (id == 0)
            return 0;
        const struct tenant *t = &tenants[id];
        if (t->hash == hash && t->n == name.n && memcmp(t->name, name.p, name.n) == 0)
            return id;
    }
}

static bool valid(fen_slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '.' || (c == '_' && i > 0);
        if (!ok)
            return false;
    }
    return true;
}

static bool tenants_full(void)
{
    uint32_t known = __atomic_load_n(&tenants_n, __ATOMIC_RELAXED) - FEN__TENANT_FIRST;
    return known >= __atomic_load_n(&max_tenants, __ATOMIC_RELAXED);
}

/* Called with the lock held; looks again, since another thread may have been first. */
static uint32_t add_tenant(fen_slice name, uint64_t hash)
{
    uint32_t id = find_tenant(name, hash);
    if (id || tenants_full())
        return id; /* 0 is _other */
    id = tenants_n;
    tenants[id].hash = hash;
    tenants[id].n = (uint32_t)name.n;
    memcpy(tenants[id].name, name.p, name.n);
    uint32_t at = (uint32_t)hash % TENANT_SLOTS;
    while (tenant_slots[at])
        at = (at + 1) % TENANT_SLOTS;
    __atomic_store_n(&tenants_n, id + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&tenant_slots[at], (uint16_t)id, __ATOMIC_RELEASE);
    return id;
}

static uint32_t tenant_id(fen_slice name)
{
    if (name.n == 0 || !name.p)
        return FEN__TENANT_NONE;
    if (name.n > FEN__TENANT_BYTES)
        return FEN__TENANT_INVALID;
    uint64_t hash = hash_of(name.p, name.n);
    uint32_t id = find_tenant(name, hash);
    if (id)
        return id; /* what is in the table has been checked */
    if (!valid(name))
        return FEN__TENANT_INVALID;
    if (tenants_full())
        return FEN__TENANT_OTHER;
    fen__tas_lock(&lock);
    id = add_tenant(name, hash);
    fen__tas_unlock(&lock);
    return id;
}

int fen__meter_max_tenants(int n)
{
    if (n < 1 || n > FEN__TENANTS_MAX)
        return -EINVAL;
    __atomic_store_n(&max_tenants, (uint32_t)n, __ATOMIC_RELAXED);
    return 0;
}

/* ---- accounts ---- */

static uint32_t new_pair(uint32_t op, uint32_t tenant)
{
    fen__tas_lock(&lock);
    uint32_t id = account_of[op][tenant];
    if (!id)
        id = add_account(op, tenant);
    fen__tas_unlock(&lock);
    return id ? id : account_of[op][FEN__TENANT_OTHER];
}

uint32_t fen__meter_account(uint32_t op, fen_slice tenant)
{
    if (op >= __atomic_load_n(&operations_n, __ATOMIC_ACQUIRE))
        op = 0;
    uint32_t t = tenant_id(tenant);
    uint32_t id = __atomic_load_n(&account_of[op][t], __ATOMIC_ACQUIRE);
    if (FEN__LIKELY(id) || (op == 0 && t == FEN__TENANT_OTHER))
        return id;
    /* A full table must not send every request of a late pair through the lock. */
    if (__atomic_load_n(&accounts_n, __ATOMIC_RELAXED) == FEN__ROWS_MAX)
        return __atomic_load_n(&account_of[op][FEN__TENANT_OTHER], __ATOMIC_ACQUIRE);
    return new_pair(op, t);
}

static void add_arena(struct fen__row *r, const struct fen__usage_ticks *u)
{
    __int128 rest = u->arena_byte_ticks + fen__count_read(&r->arena_rest);
    int64_t whole = (int64_t)(rest >> FEN__MIB_SHIFT);
    __atomic_store_n(&r->arena_rest, (int64_t)(rest - ((__int128)whole << FEN__MIB_SHIFT)),
                     __ATOMIC_RELAXED);
    fen__count_add(&r->arena_mib_ticks, whole);
    fen__count_add(&r->arena_bytes, u->arena_bytes);
}

void fen__meter_settle(struct fen__tally *t, uint32_t account, const struct fen__usage_ticks *u,
                       bool error)
{
    struct fen__row *r = fen__tally_row(t, account);
    fen__count_add(&r->requests, 1);
    if (error)
        fen__count_add(&r->errors, 1);
    if (u->arena_bytes || u->arena_byte_ticks)
        add_arena(r, u);
    fen__count_add(&r->cpu_ticks, u->cpu_ticks);
    fen__count_add(&r->wait_ticks, u->wait_ticks);
    fen__count_add(&r->in_bytes, u->in_bytes);
    fen__count_add(&r->out_bytes, u->out_bytes);
}

/* ---- names ---- */

uint32_t fen__meter_accounts(void) { return __atomic_load_n(&accounts_n, __ATOMIC_ACQUIRE); }
uint32_t fen__meter_operations(void) { return __atomic_load_n(&operations_n, __ATOMIC_ACQUIRE); }
uint32_t fen__meter_tenants(void) { return __atomic_load_n(&tenants_n, __ATOMIC_ACQUIRE); }
uint32_t fen__meter_account_operation(uint32_t account) { return accounts[account].operation; }
uint32_t fen__meter_account_tenant(uint32_t account) { return accounts[account].tenant; }
const char *fen__meter_operation_name(uint32_t op) { return operations[op].name; }
const char *fen__meter_tenant_name(uint32_t tenant) { return tenants[tenant].name; }
const struct fen__hist *fen__meter_latency_of(uint32_t op) { return operations[op].latency; }
