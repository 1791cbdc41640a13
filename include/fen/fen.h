/* fen.h - every public header. */
#ifndef FEN_FEN_H
#define FEN_FEN_H

#include <fen/arena.h>
#include <fen/chan.h>
#include <fen/context.h>
#include <fen/defer.h>
#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/http.h>
#include <fen/json.h>
#include <fen/mem.h>
#include <fen/meter.h>
#include <fen/net.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <fen/sync.h>
#include <fen/types.h>

#endif
