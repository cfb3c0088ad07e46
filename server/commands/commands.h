#pragma once
// The verbs of `pretrained-hub`. Each adds itself to the parser; errors are exceptions that main()
// turns into one line and an exit code.

#include <filesystem>
#include <iosfwd>
#include <string>

#include "pretrained/base/json.h"
#include "server/commands/hub.h"

namespace CLI {
class App;
}

namespace pretrained::server {

struct Common {
  std::filesystem::path data;
  bool json = false;
};

void add_serve(CLI::App& app);
void add_user(CLI::App& app);
void add_org(CLI::App& app);
void add_token(CLI::App& app);
void add_audit(CLI::App& app);
void add_gc(CLI::App& app);
void add_fsck(CLI::App& app);
void add_backup(CLI::App& app);
void add_restore(CLI::App& app);
void add_migrate(CLI::App& app);

// --data (else PRETRAINED_HUB_DATA) and --json.
void add_common(CLI::App& command, Common& common);
// An existing data folder; NotFoundError that says how to make one.
HubOptions existing(const Common& common);
// One JSON document, or the text.
void print(const Common& common, const Json& json, const std::string& text);

// `option` names it in errors. "90s", "15m", "12h", "30d" in seconds; "10GB", "512MiB", "1000" in
// bytes. ArgumentError.
int64_t parse_duration(const std::string& option, const std::string& text);
uint64_t parse_size(const std::string& option, const std::string& text);

}  // namespace pretrained::server
