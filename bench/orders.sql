-- The order book of the comparison servers: 100,000 orders.
--   sqlite3 orders.db < bench/orders.sql
-- `fen serve orders --fill-only` makes the same table; this needs nothing but SQLite.
PRAGMA journal_mode=WAL;
CREATE TABLE orders(
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL,
    item TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    price_cents INTEGER NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL);
WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100000)
INSERT INTO orders
SELECT id, 1 + id * 7919 % 10000, 'widget-' || (id * 31 % 500), 1 + id % 9, 99 + id * 137 % 20000,
       CASE id % 4 WHEN 0 THEN 'new' WHEN 1 THEN 'paid' WHEN 2 THEN 'sent' ELSE 'done' END,
       1700000000 + id
FROM n;
CREATE INDEX orders_customer ON orders(customer);
PRAGMA wal_checkpoint(TRUNCATE);
