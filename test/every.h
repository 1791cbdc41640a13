/* every.h - every public function, and what becomes of it when a call that it makes fails.
 *
 *   ROW(function, FAILS, also, scenario)   the scenario of that name calls it with every n-th
 *                                          allocation and every n-th system call failing
 *   ROW(function, NEVER, 0, scenario)      it makes none, which the scenario asserts
 *
 * `also`: an error that it returns for a fault beside the fault's own and -ENOMEM; 0: there is
 * none. "None" is meant of calls that have a seam (fen__sys_fault): closing, unmapping, waking a
 * thread or reading the clock has none. every_rig.h says what is checked. `./dev check` fails while
 * a public function has no row, or a row no function. */
#ifndef FEN_TEST_EVERY_H
#define FEN_TEST_EVERY_H

#define EVERY_MEM(ROW)                                                                             \
    /* arenas */                                                                                   \
    ROW(fen_arena_new, FAILS, 0, arenas)                                                           \
    ROW(fen_arena_alloc, FAILS, 0, arenas)                                                         \
    ROW(fen_arena_dup, FAILS, 0, arenas)                                                           \
    ROW(fen_arena_used_bytes, NEVER, 0, arenas)                                                    \
    ROW(fen_arena_held_bytes, NEVER, 0, arenas)                                                    \
    ROW(fen_arena_reset, NEVER, 0, arenas)                                                         \
    ROW(fen_arena_free, NEVER, 0, arenas)                                                          \
    ROW(fen_arena_grow, FAILS, 0, arenas)                                                          \
    ROW(fen_profile_heap_rate, NEVER, 0, profiles)                                                 \
    ROW(fen_profile_heap_rate_parse, NEVER, 0, profiles)                                           \
    ROW(fen_profile_heap_rate_set, NEVER, 0, profiles)                                             \
    ROW(fen_profile_heap_write, FAILS, 0, profiles)                                                \
    /* buffers */                                                                                  \
    ROW(fen_buf_fixed, NEVER, 0, buffers)                                                          \
    ROW(fen_buf_slice, NEVER, 0, buffers)                                                          \
    ROW(fen_buf_heap, NEVER, 0, buffers)                                                           \
    ROW(fen_buf_reserve, FAILS, 0, buffers)                                                        \
    ROW(fen_buf_free, NEVER, 0, buffers)                                                           \
    ROW(fen_buf_arena, NEVER, 0, buffers)                                                          \
    ROW(fen_buf_put, FAILS, 0, buffers)                                                            \
    ROW(fen_buf_put_char, FAILS, 0, buffers)                                                       \
    ROW(fen_buf_put_str, FAILS, 0, buffers)                                                        \
    ROW(fen_buf_put_i64, FAILS, 0, buffers)                                                        \
    ROW(fen_buf_put_u64, FAILS, 0, buffers)                                                        \
    /* values */                                                                                   \
    ROW(fen_json_value_i64, FAILS, 0, values)                                                      \
    ROW(fen_json_value_f64, FAILS, 0, values)                                                      \
    ROW(fen_json_value_bool, FAILS, 0, values)                                                     \
    ROW(fen_json_value_null, FAILS, 0, values)                                                     \
    ROW(fen_json_value_string, FAILS, 0, values)                                                   \
    /* writer */                                                                                   \
    ROW(fen_json_put_object, FAILS, 0, writer)                                                     \
    ROW(fen_json_put_key, FAILS, 0, writer)                                                        \
    ROW(fen_json_put_array, FAILS, 0, writer)                                                      \
    ROW(fen_json_put_i64, FAILS, 0, writer)                                                        \
    ROW(fen_json_put_f64, FAILS, 0, writer)                                                        \
    ROW(fen_json_put_bool, FAILS, 0, writer)                                                       \
    ROW(fen_json_put_null, FAILS, 0, writer)                                                       \
    ROW(fen_json_put_string, FAILS, 0, writer)                                                     \
    ROW(fen_json_put_array_end, FAILS, 0, writer)                                                  \
    ROW(fen_json_put_object_end, FAILS, 0, writer)                                                 \
    ROW(fen_json_writer_on, NEVER, 0, writer)                                                      \
    ROW(fen_json_writer_end, NEVER, 0, writer)                                                     \
    /* reader */                                                                                   \
    ROW(fen_json_next_item, NEVER, 0, reader)                                                      \
    ROW(fen_json_get_i64, NEVER, 0, reader)                                                        \
    ROW(fen_json_get_f64, NEVER, 0, reader)                                                        \
    ROW(fen_json_get_bool, NEVER, 0, reader)                                                       \
    ROW(fen_json_get_null, NEVER, 0, reader)                                                       \
    ROW(fen_json_get_chars, NEVER, 0, reader)                                                      \
    ROW(fen_json_skip, NEVER, 0, reader)                                                           \
    ROW(fen_json_reader_on, NEVER, 0, reader)                                                      \
    ROW(fen_json_peek, NEVER, 0, reader)                                                           \
    ROW(fen_json_get_object, NEVER, 0, reader)                                                     \
    ROW(fen_json_next_key, FAILS, 0, reader)                                                       \
    ROW(fen_json_get_string, FAILS, 0, reader)                                                     \
    ROW(fen_json_get_array, NEVER, 0, reader)                                                      \
    ROW(fen_json_reader_end, NEVER, 0, reader)                                                     \
    ROW(fen_json_field_begin, NEVER, 0, reader)                                                    \
    ROW(fen_json_struct_end, NEVER, 0, reader)                                                     \
    /* heap */                                                                                     \
    ROW(fen_alloc, FAILS, 0, heap)                                                                 \
    ROW(fen_calloc, FAILS, 0, heap)                                                                \
    ROW(fen_alloc_for, FAILS, 0, heap)                                                             \
    ROW(fen_aligned_alloc, FAILS, 0, heap)                                                         \
    ROW(fen_realloc, FAILS, 0, heap)                                                               \
    ROW(fen_usable_size, NEVER, 0, heap)                                                           \
    ROW(fen_mem_account_set, NEVER, 0, heap)                                                       \
    ROW(fen_mem_account, NEVER, 0, heap)                                                           \
    ROW(fen_mem_usage_get, NEVER, 0, heap)                                                         \
    ROW(fen_mem_class_get, NEVER, 0, heap)                                                         \
    ROW(fen_mem_cap_set, NEVER, 0, heap)                                                           \
    ROW(fen_mem_stats_get, NEVER, 0, heap)                                                         \
    ROW(fen_free, NEVER, 0, heap)                                                                  \
    ROW(fen_mem_reclaim, NEVER, 0, heap)                                                           \
    ROW(fen_mem_options_set, NEVER, 0, heap)                                                       \
    ROW(fen_mem_check, NEVER, 0, heap)                                                             \
    /* pacing */                                                                                   \
    ROW(fen_mem_percent_parse, NEVER, 0, pacing)                                                   \
    ROW(fen_mem_limit_parse, NEVER, 0, pacing)                                                     \
    ROW(fen_mem_percent_set, NEVER, 0, pacing)                                                     \
    ROW(fen_mem_slice_set, NEVER, 0, pacing)                                                       \
    ROW(fen_mem_limit_set, FAILS, 0, pacing)                                                       \
    ROW(fen_mem_profile_set, FAILS, 0, pacing)                                                     \
    ROW(fen_mem_pressure, NEVER, 0, pacing)                                                        \
    ROW(fen_mem_pace_get, NEVER, 0, pacing)                                                        \
    /* objects */                                                                                  \
    ROW(fen_objpool_new, FAILS, 0, objects)                                                        \
    ROW(fen_objpool_get, FAILS, 0, objects)                                                        \
    ROW(fen_objpool_put, NEVER, 0, objects)                                                        \
    ROW(fen_objpool_stats_get, NEVER, 0, objects)                                                  \
    ROW(fen_objpool_free, NEVER, 0, objects)                                                       \
    /* histograms */                                                                               \
    ROW(fen_hist_init, NEVER, 0, histograms)                                                       \
    ROW(fen_hist_record, NEVER, 0, histograms)                                                     \
    ROW(fen_hist_record_many, NEVER, 0, histograms)                                                \
    ROW(fen_hist_merge, NEVER, 0, histograms)                                                      \
    ROW(fen_hist_quantile, NEVER, 0, histograms)                                                   \
    ROW(fen_hist_mean, NEVER, 0, histograms)                                                       \
    ROW(fen_hist_next, NEVER, 0, histograms)                                                       \
    /* money */                                                                                    \
    ROW(fen_price_book_default, NEVER, 0, money)                                                   \
    ROW(fen_price_book_load, FAILS, 0, money)                                                      \
    ROW(fen_price_of, NEVER, 0, money)                                                             \
    /* variables */                                                                                \
    ROW(fen_var_new, FAILS, 0, variables)                                                          \
    ROW(fen_var_find, NEVER, 0, variables)                                                         \
    ROW(fen_var_set, NEVER, 0, variables)                                                          \
    ROW(fen_var_add, NEVER, 0, variables)                                                          \
    ROW(fen_var_record, NEVER, 0, variables)                                                       \
    ROW(fen_var_get, NEVER, 0, variables)                                                          \
    ROW(fen_var_quantile, NEVER, 0, variables)                                                     \
    /* odds */                                                                                     \
    ROW(fen_strerror, NEVER, 0, odds)                                                              \
    ROW(fen_now, NEVER, 0, odds)                                                                   \
    ROW(fen_sim_hash, NEVER, 0, odds)

#define EVERY_SYNC(ROW)                                                                            \
    /* channels */                                                                                 \
    ROW(fen_chan_new, FAILS, 0, channels)                                                          \
    ROW(fen_chan_cap, NEVER, 0, channels)                                                          \
    ROW(fen_chan_len, NEVER, 0, channels)                                                          \
    ROW(fen_chan_send, FAILS, 0, channels)                                                         \
    ROW(fen_chan_recv, FAILS, 0, channels)                                                         \
    ROW(fen_chan_try_send, NEVER, 0, channels)                                                     \
    ROW(fen_chan_try_recv, NEVER, 0, channels)                                                     \
    ROW(fen_select, FAILS, 0, channels)                                                            \
    ROW(fen_chan_close, NEVER, 0, channels)                                                        \
    ROW(fen_chan_free, NEVER, 0, channels)                                                         \
    /* mutexes */                                                                                  \
    ROW(fen_mutex_lock, NEVER, 0, mutexes)                                                         \
    ROW(fen_mutex_unlock, NEVER, 0, mutexes)                                                       \
    ROW(fen_mutex_try_lock, NEVER, 0, mutexes)                                                     \
    ROW(fen_cond_wait, NEVER, 0, mutexes)                                                          \
    ROW(fen_cond_signal, NEVER, 0, mutexes)                                                        \
    ROW(fen_cond_broadcast, NEVER, 0, mutexes)                                                     \
    ROW(fen_cond_fini, NEVER, 0, mutexes)                                                          \
    ROW(fen_mutex_fini, NEVER, 0, mutexes)                                                         \
    /* rwlocks */                                                                                  \
    ROW(fen_rwlock_read_lock, NEVER, 0, rwlocks)                                                   \
    ROW(fen_rwlock_read_unlock, NEVER, 0, rwlocks)                                                 \
    ROW(fen_rwlock_write_lock, NEVER, 0, rwlocks)                                                  \
    ROW(fen_rwlock_write_unlock, NEVER, 0, rwlocks)                                                \
    ROW(fen_rwlock_try_read_lock, NEVER, 0, rwlocks)                                               \
    ROW(fen_rwlock_try_write_lock, NEVER, 0, rwlocks)                                              \
    ROW(fen_rwlock_fini, NEVER, 0, rwlocks)                                                        \
    /* counters */                                                                                 \
    ROW(fen_sem_init, NEVER, 0, counters)                                                          \
    ROW(fen_sem_try_acquire, NEVER, 0, counters)                                                   \
    ROW(fen_sem_acquire, NEVER, 0, counters)                                                       \
    ROW(fen_sem_release, NEVER, 0, counters)                                                       \
    ROW(fen_wg_add, NEVER, 0, counters)                                                            \
    ROW(fen_wg_try_wait, NEVER, 0, counters)                                                       \
    ROW(fen_wg_done, NEVER, 0, counters)                                                           \
    ROW(fen_wg_wait, NEVER, 0, counters)                                                           \
    ROW(fen_sem_fini, NEVER, 0, counters)                                                          \
    ROW(fen_wg_fini, NEVER, 0, counters)                                                           \
    /* meetings */                                                                                 \
    ROW(fen_once_try_do, NEVER, 0, meetings)                                                       \
    ROW(fen_once_do, NEVER, 0, meetings)                                                           \
    ROW(fen_barrier_init, NEVER, 0, meetings)                                                      \
    ROW(fen_barrier_try_wait, NEVER, 0, meetings)                                                  \
    ROW(fen_barrier_wait, NEVER, 0, meetings)                                                      \
    ROW(fen_barrier_fini, NEVER, 0, meetings)                                                      \
    ROW(fen_once_fini, NEVER, 0, meetings)                                                         \
    /* timers */                                                                                   \
    ROW(fen_timer_new, FAILS, 0, timers)                                                           \
    ROW(fen_timer_new_func, FAILS, 0, timers)                                                      \
    ROW(fen_timer_chan, NEVER, 0, timers)                                                          \
    ROW(fen_timer_stop, NEVER, 0, timers)                                                          \
    ROW(fen_timer_free, NEVER, 0, timers)                                                          \
    /* spawning */                                                                                 \
    ROW(fen_go_named, FAILS, 0, spawning)                                                          \
    ROW(fen_go_detached, FAILS, 0, spawning)                                                       \
    ROW(fen_yield, NEVER, 0, spawning)                                                             \
    ROW(fen_sleep, FAILS, 0, spawning)                                                             \
    ROW(fen_in_fiber, NEVER, 0, spawning)                                                          \
    ROW(fen_fiber_id, NEVER, 0, spawning)                                                          \
    ROW(fen_fiber_rename, NEVER, 0, spawning)                                                      \
    ROW(fen_fiber_name, NEVER, 0, spawning)                                                        \
    ROW(fen_blocking_begin, NEVER, 0, spawning)                                                    \
    ROW(fen_blocking_end, NEVER, 0, spawning)                                                      \
    ROW(fen_spawner_open, FAILS, 0, spawning)                                                      \
    ROW(fen_spawner_close, NEVER, 0, spawning)                                                     \
    /* groups */                                                                                   \
    ROW(fen_group_open, FAILS, 0, groups)                                                          \
    ROW(fen_group_scope, NEVER, 0, groups)                                                         \
    ROW(fen_group_try_go, FAILS, 0, groups)                                                        \
    ROW(fen_group_go, FAILS, 0, groups)                                                            \
    ROW(fen_group_go_until, FAILS, 0, groups)                                                      \
    ROW(fen_group_wait, NEVER, 0, groups)                                                          \
    ROW(fen_group_try_wait, NEVER, 0, groups)                                                      \
    /* scopes */                                                                                   \
    ROW(fen_scope_current, NEVER, 0, scopes)                                                       \
    ROW(fen_scope_check, NEVER, 0, scopes)                                                         \
    ROW(fen_cancel_hook_add, FAILS, 0, scopes)                                                     \
    ROW(fen_scope_deadline, NEVER, 0, scopes)                                                      \
    ROW(fen_scope_set_deadline, NEVER, 0, scopes)                                                  \
    ROW(fen_scope_hibernate, NEVER, 0, scopes)                                                     \
    ROW(fen_scope_cancel_with, NEVER, 0, scopes)                                                   \
    ROW(fen_scope_cancel, NEVER, 0, scopes)                                                        \
    ROW(fen_scope_cause, NEVER, 0, scopes)                                                         \
    ROW(fen_cancel_hook_del, NEVER, 0, scopes)                                                     \
    ROW(fen_scope_close, NEVER, 0, scopes)                                                         \
    ROW(fen_scope_try_close, NEVER, 0, scopes)                                                     \
    /* deferring */                                                                                \
    ROW(fen_scope_set_cleanup, NEVER, 0, deferring)                                                \
    ROW(fen_defer, NEVER, 0, deferring)                                                            \
    ROW(fen_defer_check, NEVER, 0, deferring)                                                      \
    ROW(fen_undefer, NEVER, 0, deferring)                                                          \
    ROW(fen_defer_dyn, FAILS, 0, deferring)                                                        \
    ROW(fen_defer_blocks, NEVER, 0, deferring)                                                     \
    ROW(fen_defer_group_init, NEVER, 0, deferring)                                                 \
    ROW(fen_defer_group_add, FAILS, 0, deferring)                                                  \
    ROW(fen_defer_group_run, NEVER, 0, deferring)                                                  \
    ROW(fen_defer_group_grow, FAILS, 0, deferring)                                                 \
    ROW(fen_defer_group_shrink, NEVER, 0, deferring)                                               \
    ROW(fen_defer_group_end, NEVER, 0, deferring)                                                  \
    ROW(fen_defer_many, NEVER, 0, deferring)                                                       \
    /* values */                                                                                   \
    ROW(fen_local_key_new, NEVER, 0, values)                                                       \
    ROW(fen_local_set, FAILS, 0, values)                                                           \
    ROW(fen_local_get, NEVER, 0, values)                                                           \
    ROW(fen_local_key_free, NEVER, 0, values)                                                      \
    ROW(fen_label_get, NEVER, 0, values)                                                           \
    ROW(fen_label_at, NEVER, 0, values)                                                            \
    /* pools */                                                                                    \
    ROW(fen_pool_new, FAILS, 0, pools)                                                             \
    ROW(fen_pool_try_get, NEVER, 0, pools)                                                         \
    ROW(fen_pool_each_holder, NEVER, 0, pools)                                                     \
    ROW(fen_pool_put, NEVER, 0, pools)                                                             \
    ROW(fen_pool_get, NEVER, 0, pools)                                                             \
    ROW(fen_pool_stats_get, NEVER, 0, pools)                                                       \
    ROW(fen_pool_close, NEVER, 0, pools)                                                           \
    ROW(fen_pool_free, NEVER, 0, pools)                                                            \
    /* deadlines */                                                                                \
    ROW(fen_mutex_lock_until, FAILS, 0, deadlines)                                                 \
    ROW(fen_cond_wait_until, FAILS, 0, deadlines)                                                  \
    ROW(fen_chan_send_until, FAILS, 0, deadlines)                                                  \
    ROW(fen_chan_recv_until, FAILS, 0, deadlines)                                                  \
    ROW(fen_pool_get_until, FAILS, 0, deadlines)                                                   \
    ROW(fen_sleep_until, FAILS, 0, deadlines)                                                      \
    /* waiting */                                                                                  \
    ROW(fen_rwlock_read_lock_until, FAILS, 0, waiting)                                             \
    ROW(fen_rwlock_write_lock_until, FAILS, 0, waiting)                                            \
    ROW(fen_sem_acquire_until, FAILS, 0, waiting)                                                  \
    ROW(fen_wg_wait_until, FAILS, 0, waiting)                                                      \
    ROW(fen_scope_close_until, FAILS, 0, waiting)                                                  \
    ROW(fen_group_wait_until, FAILS, 0, waiting)                                                   \
    ROW(fen_barrier_wait_until, FAILS, 0, waiting)                                                 \
    /* others */                                                                                   \
    ROW(fen_label_set, FAILS, 0, others)                                                           \
    ROW(fen_once_do_until, FAILS, 0, others)                                                       \
    ROW(fen_timer_start, FAILS, 0, others)                                                         \
    ROW(fen_timer_every, FAILS, 0, others)                                                         \
    ROW(fen_blocking_until, FAILS, 0, others)                                                      \
    ROW(fen_try_blocking, FAILS, 0, others)                                                        \
    /* crowded */                                                                                  \
    ROW(fen_scope_open, FAILS, 0, crowded)                                                         \
    ROW(fen_spawner_go, FAILS, 0, crowded)                                                         \
    ROW(fen_go, FAILS, 0, crowded)                                                                 \
    /* running */                                                                                  \
    ROW(fen_debug_fibers, FAILS, 0, running)                                                       \
    ROW(fen_outsider_begin, NEVER, 0, running)                                                     \
    ROW(fen_outsider_end, NEVER, 0, running)                                                       \
    ROW(fen_meter_switch, NEVER, 0, running)                                                       \
    ROW(fen_stats_get, NEVER, 0, running)                                                          \
    ROW(fen_procs_set, FAILS, 0, running)                                                          \
    ROW(fen_procs, NEVER, 0, running)                                                              \
    /* starting */                                                                                 \
    ROW(fen_run, FAILS, -EAGAIN, starting)                                                         \
    /* ending */                                                                                   \
    ROW(fen_abort, NEVER, 0, ending)                                                               \
    /* contexts */                                                                                 \
    ROW(fen_context_suspend, NEVER, 0, contexts)                                                   \
    ROW(fen_context_new, FAILS, 0, contexts)                                                       \
    ROW(fen_context_resume, NEVER, 0, contexts)                                                    \
    ROW(fen_context_free, NEVER, 0, contexts)

#define EVERY_IO(ROW)                                                                              \
    /* addresses */                                                                                \
    ROW(fen_addr_parse, NEVER, 0, addresses)                                                       \
    ROW(fen_addr_text, NEVER, 0, addresses)                                                        \
    ROW(fen_addr_port, NEVER, 0, addresses)                                                        \
    /* dialling */                                                                                 \
    ROW(fen_sock_listen, FAILS, 0, dialling)                                                       \
    ROW(fen_tcp_listen, FAILS, 0, dialling)                                                        \
    ROW(fen_sock_port, FAILS, 0, dialling)                                                         \
    ROW(fen_sock_local, FAILS, 0, dialling)                                                        \
    ROW(fen_sock_dial, FAILS, 0, dialling)                                                         \
    ROW(fen_tcp_dial, FAILS, 0, dialling)                                                          \
    ROW(fen_sock_bind, FAILS, 0, dialling)                                                         \
    ROW(fen_sock_peer, FAILS, 0, dialling)                                                         \
    ROW(fen_sock_configure, FAILS, 0, dialling)                                                    \
    ROW(fen_sock_shutdown, FAILS, 0, dialling)                                                     \
    ROW(fen_sock_close, NEVER, 0, dialling)                                                        \
    /* accepting */                                                                                \
    ROW(fen_sock_accept, FAILS, 0, accepting)                                                      \
    ROW(fen_tcp_accept, FAILS, 0, accepting)                                                       \
    ROW(fen_sock_adopt, FAILS, 0, accepting)                                                       \
    ROW(fen_sock_pair, FAILS, 0, accepting)                                                        \
    /* writing */                                                                                  \
    ROW(fen_sock_write, FAILS, 0, writing)                                                         \
    ROW(fen_sock_writev, FAILS, 0, writing)                                                        \
    ROW(fen_sock_write_zc, FAILS, -ETIMEDOUT, writing)                                             \
    ROW(fen_sock_zc_count, NEVER, 0, writing)                                                      \
    ROW(fen_sock_send_file, FAILS, 0, writing)                                                     \
    /* reading */                                                                                  \
    ROW(fen_sock_read, FAILS, 0, reading)                                                          \
    ROW(fen_sock_readv, FAILS, 0, reading)                                                         \
    ROW(fen_sock_splice, FAILS, 0, reading)                                                        \
    /* datagrams */                                                                                \
    ROW(fen_sock_send_to, FAILS, 0, datagrams)                                                     \
    ROW(fen_sock_recv_from, FAILS, 0, datagrams)                                                   \
    /* files */                                                                                    \
    ROW(fen_file_open, FAILS, 0, files)                                                            \
    ROW(fen_file_write, FAILS, 0, files)                                                           \
    ROW(fen_file_pwrite, FAILS, 0, files)                                                          \
    ROW(fen_file_pread, FAILS, 0, files)                                                           \
    ROW(fen_file_read, FAILS, 0, files)                                                            \
    ROW(fen_file_sync, FAILS, 0, files)                                                            \
    ROW(fen_file_truncate, FAILS, 0, files)                                                        \
    ROW(fen_file_fstat, FAILS, 0, files)                                                           \
    ROW(fen_file_stat, FAILS, 0, files)                                                            \
    ROW(fen_file_close, NEVER, 0, files)                                                           \
    ROW(fen_file_rename, FAILS, 0, files)                                                          \
    ROW(fen_file_unlink, FAILS, 0, files)                                                          \
    /* guests */                                                                                   \
    ROW(fen_fd_wait, FAILS, 0, guests)                                                             \
    ROW(fen_fd_forget, NEVER, 0, guests)                                                           \
    ROW(fen_blocking, FAILS, 0, guests)                                                            \
    /* children */                                                                                 \
    ROW(fen_process_open, FAILS, 0, children)                                                      \
    ROW(fen_process_pid, NEVER, 0, children)                                                       \
    ROW(fen_process_write, FAILS, 0, children)                                                     \
    ROW(fen_process_read, FAILS, 0, children)                                                      \
    ROW(fen_process_close_input, NEVER, 0, children)                                               \
    ROW(fen_process_close, NEVER, 0, children)                                                     \
    ROW(fen_process_run, FAILS, 0, children)                                                       \
    ROW(fen_process_kill, FAILS, 0, children)                                                      \
    /* reaping */                                                                                  \
    ROW(fen_process_wait, FAILS, 0, reaping)                                                       \
    /* signalled */                                                                                \
    ROW(fen_signal_open, FAILS, 0, signalled)                                                      \
    ROW(fen_signal_chan, NEVER, 0, signalled)                                                      \
    ROW(fen_signal_close, NEVER, 0, signalled)                                                     \
    /* exchanges */                                                                                \
    ROW(fen_method, NEVER, 0, exchanges)                                                           \
    ROW(fen_path, NEVER, 0, exchanges)                                                             \
    ROW(fen_path_value, NEVER, 0, exchanges)                                                       \
    ROW(fen_path_i64, NEVER, 0, exchanges)                                                         \
    ROW(fen_query_value, NEVER, 0, exchanges)                                                      \
    ROW(fen_query_i64, NEVER, 0, exchanges)                                                        \
    ROW(fen_header, NEVER, 0, exchanges)                                                           \
    ROW(fen_exchange_local, FAILS, 0, exchanges)                                                   \
    ROW(fen_body, NEVER, 0, exchanges)                                                             \
    ROW(fen_exchange_arena, NEVER, 0, exchanges)                                                   \
    ROW(fen_exchange_timeout, NEVER, 0, exchanges)                                                 \
    ROW(fen_reply_header, FAILS, 0, exchanges)                                                     \
    ROW(fen_reply, FAILS, 0, exchanges)                                                            \
    ROW(fen_reply_error, FAILS, 0, exchanges)                                                      \
    ROW(fen_reply_json, FAILS, 0, exchanges)                                                       \
    ROW(fen_server_new, FAILS, 0, exchanges)                                                       \
    ROW(fen_route, FAILS, 0, exchanges)                                                            \
    ROW(fen_route_find, NEVER, 0, exchanges)                                                       \
    ROW(fen_server_port, NEVER, 0, exchanges)                                                      \
    ROW(fen_server_stop, NEVER, 0, exchanges)                                                      \
    ROW(fen_server_free, NEVER, 0, exchanges)                                                      \
    /* serving */                                                                                  \
    ROW(fen_server_run, FAILS, 0, serving)                                                         \
    ROW(fen_server_serve, FAILS, 0, serving)

#endif
