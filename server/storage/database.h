#pragma once
// The database: accounts, repositories, references, what large objects consist of. SQLite in WAL
// mode with synchronous=FULL: a write() that returned survives power loss. The interface is small
// and the SQL plain so that PostgreSQL can stand here later. All functions may be called from any
// thread; several processes may share one file (the admin commands beside a running server).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "pretrained/base/error.h"

namespace pretrained::server {

// Raw bytes of a BLOB column, apart from text.
struct Bytes {
  std::string data;
};
using Value = std::variant<std::nullptr_t, int64_t, double, std::string, Bytes>;

inline Value to_value(int64_t v) { return v; }
inline Value to_value(std::string v) { return v; }
inline Value to_value(std::string_view v) { return std::string(v); }
inline Value to_value(const char* v) { return std::string(v); }
inline Value to_value(Bytes v) { return v; }
inline Value to_value(std::nullptr_t) { return nullptr; }
template <class T>
Value to_value(const std::optional<T>& v) {
  return v ? to_value(*v) : Value(nullptr);
}
template <class T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
Value to_value(T v) {
  return int64_t(v);
}

// One row of a result, by column. A column of another type than asked is an Error (a bug).
class Row {
 public:
  explicit Row(std::vector<Value> values) : values_(std::move(values)) {}
  bool null(size_t column) const;
  int64_t integer(size_t column) const;
  double number(size_t column) const;
  const std::string& text(size_t column) const;
  const std::string& bytes(size_t column) const;
  std::optional<int64_t> optional_integer(size_t column) const;
  std::optional<std::string> optional_text(size_t column) const;

 private:
  std::vector<Value> values_;
};

// Statements inside one read or write. Parameters are "?" in order.
class Transaction {
 public:
  virtual ~Transaction() = default;
  template <class... Args>
  int64_t run(std::string_view sql, Args&&... args) {  // rows changed
    return run_values(sql, {to_value(std::forward<Args>(args))...});
  }
  template <class... Args>
  std::vector<Row> query(std::string_view sql, Args&&... args) {
    std::vector<Row> rows;
    each_values(sql, {to_value(std::forward<Args>(args))...}, [&](const Row& row) {
      rows.push_back(row);
      return true;
    });
    return rows;
  }
  template <class... Args>
  std::optional<Row> one(std::string_view sql, Args&&... args) {
    auto rows = query(sql, std::forward<Args>(args)...);
    return rows.empty() ? std::nullopt : std::optional<Row>(rows[0]);
  }
  virtual int64_t last_id() = 0;  // of the last INSERT
  virtual int64_t run_values(std::string_view sql, const std::vector<Value>& values) = 0;
  // Row by row without keeping them; `visit` returns false to stop.
  virtual void each_values(std::string_view sql, const std::vector<Value>& values,
                           const std::function<bool(const Row&)>& visit) = 0;
};

// A UNIQUE or FOREIGN KEY rule refused a write: somebody else was first.
class ConflictError : public Error {
 public:
  using Error::Error;
};

class Database {
 public:
  // Opens or creates `file` and brings the schema up to date. A newer schema than this program
  // knows is an Error that names both versions. `migrate` false: an older one is an Error too.
  explicit Database(const std::filesystem::path& file, bool migrate = true);
  ~Database();

  // A consistent snapshot; never blocks writers, and writers never block it.
  template <class F>
  auto read(F&& f) -> decltype(f(std::declval<Transaction&>())) {
    return in_transaction<decltype(f(std::declval<Transaction&>()))>(false, f);
  }
  // One writer at a time; all of `f` or, when it throws, nothing. Durable when it returns. Keep it
  // short: no file is read or written inside. Disk full is an IoError, other processes' locks are
  // waited for.
  template <class F>
  auto write(F&& f) -> decltype(f(std::declval<Transaction&>())) {
    return in_transaction<decltype(f(std::declval<Transaction&>()))>(true, f);
  }
  // A consistent copy of the whole database into a new file, while it is in use.
  void backup(const std::filesystem::path& target);
  static int schema_version();

 private:
  void run(bool write, const std::function<void(Transaction&)>& f);
  template <class R, class F>
  R in_transaction(bool write, F& f) {
    if constexpr (std::is_void_v<R>) {
      run(write, [&](Transaction& t) { f(t); });
    } else {
      std::optional<R> result;
      run(write, [&](Transaction& t) { result.emplace(f(t)); });
      return std::move(*result);
    }
  }
  struct State;
  std::unique_ptr<State> state_;
};

// The id of the next row of `table`, one that no row of it ever had: SQLite would give that of a
// deleted last row again, and with it what tokens, signed addresses and caches still say of that.
int64_t fresh_id(Transaction& t, const std::string& table);
int64_t now_ms();                           // since 1970
std::string iso8601(int64_t milliseconds);  // "2026-11-24T21:38:22.000Z"
std::string random_hex(size_t digits);      // of the operating system's generator

}  // namespace pretrained::server
