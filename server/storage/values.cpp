#include <sys/random.h>
#include <time.h>

#include <chrono>
#include <cstring>

#include "server/storage/database.h"

namespace pretrained::server {
namespace {

const char* kind_of(const Value& value) {
  static const char* const kinds[] = {"null", "an integer", "a number", "text", "bytes"};
  return kinds[value.index()];
}

const Value& at(const std::vector<Value>& values, size_t column) {
  if (column >= values.size())
    throw Error("database: column " + std::to_string(column) + " of a row of " +
                std::to_string(values.size()));
  return values[column];
}

template <class T>
const T& get(const std::vector<Value>& values, size_t column) {
  auto& value = at(values, column);
  if (auto* found = std::get_if<T>(&value)) return *found;
  throw Error("database: column " + std::to_string(column) + " holds " + kind_of(value) +
              ", expected " + kind_of(T{}));
}

}  // namespace

bool Row::null(size_t column) const {
  return std::holds_alternative<std::nullptr_t>(at(values_, column));
}
int64_t Row::integer(size_t column) const { return get<int64_t>(values_, column); }
double Row::number(size_t column) const { return get<double>(values_, column); }
const std::string& Row::text(size_t column) const { return get<std::string>(values_, column); }
const std::string& Row::bytes(size_t column) const { return get<Bytes>(values_, column).data; }
std::optional<int64_t> Row::optional_integer(size_t column) const {
  return null(column) ? std::nullopt : std::optional(integer(column));
}
std::optional<std::string> Row::optional_text(size_t column) const {
  return null(column) ? std::nullopt : std::optional(text(column));
}

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

std::string iso8601(int64_t milliseconds) {
  int64_t rest = ((milliseconds % 1000) + 1000) % 1000;
  time_t seconds = (milliseconds - rest) / 1000;
  tm parts{};
  if (!gmtime_r(&seconds, &parts)) throw Error("no date for " + std::to_string(milliseconds));
  char text[64], fraction[8];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(fraction, sizeof fraction, ".%03dZ", int(rest));
  return std::string(text) + fraction;
}

std::string random_hex(size_t digits) {
  static const char hex[] = "0123456789abcdef";
  std::string text(digits, '0');
  for (size_t done = 0; done < digits;) {
    unsigned char bytes[128];
    size_t wanted = std::min(sizeof bytes, (digits - done + 1) / 2);
    ssize_t got = getrandom(bytes, wanted, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError(std::string("random bytes: ") + std::strerror(errno));
    for (ssize_t i = 0; i < 2 * got && done < digits; i++)
      text[done++] = hex[i % 2 ? bytes[i / 2] & 15 : bytes[i / 2] >> 4];
  }
  return text;
}

}  // namespace pretrained::server
