/* fen.h - every public header but stddefer.h, which makes defer a keyword and is for C only. */
#ifndef FEN_FEN_H
#define FEN_FEN_H

#include <fen/arena.h>
#include <fen/chan.h>
#include <fen/context.h>
#include <fen/debug.h>
#include <fen/defer.h>
#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/file.h>
#include <fen/group.h>
#include <fen/http.h>
#include <fen/io.h>
#include <fen/json.h>
#include <fen/local.h>
#include <fen/mem.h>
#include <fen/meter.h>
#include <fen/net.h>
#include <fen/objpool.h>
#include <fen/pace.h>
#include <fen/pool.h>
#include <fen/process.h>
#include <fen/profile.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <fen/signal.h>
#include <fen/sim.h>
#include <fen/spawner.h>
#include <fen/sync.h>
#include <fen/timer.h>
#include <fen/types.h>

#endif
