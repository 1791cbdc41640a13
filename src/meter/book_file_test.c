/* book_file_test.c - price files: exact amounts, and errors that name the line and the way out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fen/err.h>
#include <fen/meter.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/fen_price_XXXXXX";

static int load(const char *contents, size_t n, fen_price_book *ret_book, char text[static 256])
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(contents, 1, n, f), n);
    fclose(f);
    return fen_price_book_load(path, ret_book, text, 256);
}

static void reads_every_key(void **state)
{
    (void)state;
    static const char file[] = "# list of June\r\n"
                               "currency = USD\n"
                               "\n"
                               "  cpu_core_hour=0.031611   # reserved\n"
                               "mem_gb_hour = .004237000000001\n"
                               "request_1000 = 9000\n"
                               "request_price = on";
    fen_price_book b;
    char text[256] = "";
    assert_int_equal(load(file, sizeof file - 1, &b, text), 0);
    assert_string_equal(b.currency, "USD");
    assert_int_equal(b.cpu_core_hour_fyuan, 31611000000000);
    assert_int_equal(b.mem_gb_hour_fyuan, 4237000000001);
    assert_int_equal(b.request_1000_fyuan, 9000000000000000000);
    assert_true(b.request_on);
}

static void what_is_missing_is_the_default(void **state)
{
    (void)state;
    fen_price_book b, d;
    char text[256] = "";
    fen_price_book_default(&d);
    assert_int_equal(load("", 0, &b, text), 0);
    assert_string_equal(b.currency, "CNY");
    assert_int_equal(b.cpu_core_hour_fyuan, d.cpu_core_hour_fyuan);
    assert_int_equal(b.mem_gb_hour_fyuan, d.mem_gb_hour_fyuan);
    assert_int_equal(b.request_1000_fyuan, d.request_1000_fyuan);
    assert_false(b.request_on);
}

static void errors_name_line_fault_and_choice(void **state)
{
    (void)state;
    static const struct {
        const char *file, *at, *what, *accepted;
    } cases[] = {
        {"\ncpu_hour = 1\n", ":2: ", "unknown key \"cpu_hour\"", "cpu_core_hour"},
        {"mem_gb_hour=1\nmem_gb_hour=2", ":2: ", "duplicate key", "first on line 1"},
        {"cpu_core_hour = -1", ":1: ", "negative amount \"-1\"", "0 to 9000"},
        {"cpu_core_hour = 0.1234567890123456", ":1: ", "too many digits", "at most 15"},
        {"cpu_core_hour = 9000.000000000000001", ":1: ", "too large", "9000"},
        {"cpu_core_hour = 99999999999999999999999999", ":1: ", "too large", "9000"},
        {"cpu_core_hour = 1e3", ":1: ", "not a decimal", "digits"},
        {"cpu_core_hour = 1.2.3", ":1: ", "not a decimal", "digits"},
        {"cpu_core_hour = .", ":1: ", "not a decimal", "digits"},
        {"cpu_core_hour = 1.", ":1: ", "not a decimal", "digits"},
        {"cpu_core_hour =", ":1: ", "not a decimal", "digits"},
        {"cpu_core_hour", ":1: ", "no '='", "key = value"},
        {"currency = yuan", ":1: ", "not a currency", "A-Z"},
        {"currency = TOOLONGX", ":1: ", "not a currency", "A-Z"},
        {"request_price = yes", ":1: ", "not a switch", "on, off"},
        {"# ok\n\n= 3", ":3: ", "unknown key \"\"", "currency"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fen_price_book b = {.cpu_core_hour_fyuan = 77};
        char text[256] = "";
        assert_int_equal(load(cases[i].file, strlen(cases[i].file), &b, text), -EINVAL);
        assert_int_equal(b.cpu_core_hour_fyuan, 77);
        assert_memory_equal(text, path, strlen(path));
        assert_non_null(strstr(text, cases[i].at));
        assert_non_null(strstr(text, cases[i].what));
        assert_non_null(strstr(strstr(text, "accepted: "), cases[i].accepted));
        assert_null(strchr(text, '\n'));
    }
}

static void odd_bytes_stay_on_one_line(void **state)
{
    (void)state;
    fen_price_book b;
    char text[256];
    assert_int_equal(load("a\0b\x1b\r\vc = 1", 11, &b, text), -EINVAL);
    assert_non_null(strstr(text, "unknown key \"a?b???c\""));
    char tiny[8];
    assert_int_equal(fen_price_book_load(path, &b, tiny, sizeof tiny), -EINVAL);
    assert_int_equal(tiny[7], 0);
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    fen_price_book b;
    char text[256];
    assert_int_equal(fen_price_book_load("/nonexistent/prices", &b, text, sizeof text), -ENOENT);
    assert_non_null(strstr(text, "/nonexistent/prices: cannot be read"));
    static char big[70000];
    memset(big, '#', sizeof big);
    assert_int_equal(load(big, sizeof big, &b, text), -EFBIG);
    assert_int_equal(load(big, 65536, &b, text), 0);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(what_is_missing_is_the_default),
        cmocka_unit_test(errors_name_line_fault_and_choice),
        cmocka_unit_test(odd_bytes_stay_on_one_line),
        cmocka_unit_test(files_that_cannot_be_read),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
