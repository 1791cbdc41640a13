/* sanitize.h - which sanitizer this is compiled for, by gcc's and by clang's way of saying it:
 * FEN__ASAN, FEN__TSAN, defined or not. */
#ifndef FEN_BASE_SANITIZE_H
#define FEN_BASE_SANITIZE_H

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define FEN__ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define FEN__TSAN 1
#endif

#endif
