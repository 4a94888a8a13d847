#include "runs/database.h"

#include <sqlite3.h>

#include <memory>
#include <variant>

#include "runs/compare.h"

namespace moiety::runs {
namespace {

constexpr int kVersion = 1;
constexpr const char* kSchema = R"(
CREATE TABLE runs (
  path TEXT PRIMARY KEY, name TEXT NOT NULL, seed INTEGER, finished INTEGER NOT NULL,
  parameters INTEGER, active_parameters INTEGER, flops_per_token REAL, lr REAL,
  steps INTEGER NOT NULL, tokens REAL NOT NULL, flops REAL, seconds REAL NOT NULL,
  loss REAL, bits_per_byte REAL, busiest_expert REAL, load_entropy REAL, idle_experts REAL);
CREATE TABLE settings (
  path TEXT NOT NULL REFERENCES runs(path) ON DELETE CASCADE, key TEXT NOT NULL, value, PRIMARY KEY (path, key)) WITHOUT ROWID;
CREATE TABLE steps (
  path TEXT NOT NULL REFERENCES runs(path) ON DELETE CASCADE, step INTEGER NOT NULL,
  tokens REAL NOT NULL, seconds REAL NOT NULL, loss REAL NOT NULL, balance_loss REAL, lr REAL, PRIMARY KEY (path, step)) WITHOUT ROWID;
CREATE TABLE scores (
  path TEXT NOT NULL REFERENCES runs(path) ON DELETE CASCADE, step INTEGER NOT NULL, domain TEXT NOT NULL, final INTEGER NOT NULL,
  nats_per_token REAL NOT NULL, bits_per_byte REAL NOT NULL, PRIMARY KEY (path, step, final, domain)) WITHOUT ROWID;
)";

using Value = std::variant<std::monostate, int64_t, double, std::string>;

Value known(double value) { return value > 0 ? Value(value) : Value(); }
Value known(int64_t value) { return value > 0 ? Value(value) : Value(); }
Value known(std::optional<double> value) { return value ? Value(*value) : Value(); }
Value value_of(const Json& json) {
  if (json.is_string()) return json.get<std::string>();
  if (json.is_boolean()) return int64_t{json.get<bool>()};
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number()) return json.get<double>();
  return json.dump();
}

class Database {
 public:
  explicit Database(const fs::path& file) : name_(file.string()) {
    sqlite3* opened = nullptr;
    const int status = sqlite3_open(name_.c_str(), &opened);
    database_.reset(opened);
    check(status);
    sqlite3_busy_timeout(opened, 10'000);
    run("PRAGMA foreign_keys = ON");
  }

  void run(const char* sql) { check(sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr)); }

  int64_t integer(const char* sql) {
    const Statement statement = prepare(sql);
    const int status = sqlite3_step(statement.get());
    if (status != SQLITE_ROW) check(status);
    return sqlite3_column_int64(statement.get(), 0);
  }

  // Runs `sql` with its question marks replaced.
  void run(const char* sql, std::initializer_list<Value> values) {
    const Statement statement = prepare(sql);
    int place = 0;
    for (const Value& value : values) check(bind(statement.get(), ++place, value));
    const int status = sqlite3_step(statement.get());
    if (status != SQLITE_DONE) check(status);
  }

 private:
  struct Close {
    void operator()(sqlite3* database) const { sqlite3_close(database); }
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Close>;

  Statement prepare(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(database_.get(), sql, -1, &statement, nullptr));
    return Statement(statement);
  }
  static int bind(sqlite3_stmt* statement, int place, const Value& value) {
    if (const auto* integer = std::get_if<int64_t>(&value)) return sqlite3_bind_int64(statement, place, *integer);
    if (const auto* number = std::get_if<double>(&value)) return sqlite3_bind_double(statement, place, *number);
    if (const auto* text = std::get_if<std::string>(&value)) {
      return sqlite3_bind_text(statement, place, text->data(), static_cast<int>(text->size()), SQLITE_TRANSIENT);
    }
    return sqlite3_bind_null(statement, place);
  }
  void check(int status) {
    if (status == SQLITE_OK || status == SQLITE_ROW || status == SQLITE_DONE) return;
    const ErrorKind kind = status == SQLITE_NOTADB ? ErrorKind::Input : ErrorKind::Io;
    fail(kind, "{}: {}", name_, database_ ? sqlite3_errmsg(database_.get()) : sqlite3_errstr(status));
  }

  std::string name_;
  std::unique_ptr<sqlite3, Close> database_;
};

void make_tables(Database& database, const fs::path& file) {
  const int64_t version = database.integer("PRAGMA user_version");
  if (version == 0 && database.integer("SELECT count(*) FROM sqlite_master") == 0) {
    database.run(kSchema);
    database.run(fmt::format("PRAGMA user_version = {}", kVersion).c_str());
    return;
  }
  require(version == kVersion, "{}: a database of something else (user_version {}, expected {})", file.string(), version, kVersion);
}

void add(Database& database, const Run& run) {
  const std::string path = fs::weakly_canonical(run.path).string();
  const Figures figures = figures_of(run, {});
  const Step& last = run.last();
  database.run("DELETE FROM runs WHERE path = ?", {path});
  database.run("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
               {path, run.name, run.config.contains("run.seed") ? value_of(run.config["run.seed"]) : Value(), int64_t{run.finished},
                known(run.parameters), known(run.active_parameters), known(run.flops_per_token), known(run.lr), last.step, last.tokens,
                known(last.tokens * run.flops_per_token), last.seconds, known(figures.last_loss), known(figures.bits_per_byte),
                known(figures.max_over_mean), known(figures.entropy), known(figures.idle)});
  for (const auto& [key, value] : run.config.items()) {
    database.run("INSERT INTO settings VALUES (?, ?, ?)", {path, key, value_of(value)});
  }
  for (const Step& step : run.steps) {
    database.run("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
                 {path, step.step, step.tokens, step.seconds, step.loss, step.balance_loss, step.lr});
  }
  for (const Validation& validation : run.validations) {
    for (const Score& score : validation.scores) {
      database.run("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)",
                   {path, validation.step, score.domain, int64_t{validation.final}, score.nats_per_token, score.bits_per_byte});
    }
  }
}

}  // namespace

void write_database(const fs::path& file, std::span<const Run> runs) {
  Database database(file);
  database.run("BEGIN IMMEDIATE");  // given back if anything throws: closing rolls back
  make_tables(database, file);
  for (const Run& run : runs) add(database, run);
  database.run("COMMIT");
}

}  // namespace moiety::runs
