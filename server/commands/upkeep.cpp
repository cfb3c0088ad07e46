#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "pretrained/base/error.h"
#include "server/commands/commands.h"
#include "server/commands/maintenance.h"

// pretrained-hub gc|fsck|backup|restore|migrate.

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

// One line on stderr while a step moves; nothing where stderr is no terminal.
Progress terminal_progress(bool quiet) {
  if (quiet || !isatty(2)) return [](const std::string&, uint64_t, uint64_t) {};
  auto last = std::make_shared<int64_t>(0);
  return [last](const std::string& step, uint64_t done, uint64_t total) {
    if (now_ms() - *last < 100) return;
    *last = now_ms();
    std::cerr << "\r" << step << "  " << done << " of " << total << "\033[K" << std::flush;
  };
}

struct UpkeepOptions {
  Common common;
  fs::path folder;
  bool fast = false, link = false, all = false;
};

}  // namespace

void add_gc(CLI::App& app) {
  auto* gc =
      app.add_subcommand("gc", "free what nothing names any more; safe while the hub serves");
  gc->footer("Example:\n  pretrained-hub gc --data /srv/hub");
  auto o = std::make_shared<UpkeepOptions>();
  add_common(*gc, o->common);
  gc->add_flag("--all", o->all,
               "also what was deleted but uploaded within three weeks: who uploads that again from "
               "the same machine must delete $HF_HOME/xet before");
  gc->callback([o] {
    Hub hub(existing(o->common));
    GcReport report = collect_garbage(hub, o->all);
    print(o->common,
          Json::Object{{"objects", int64_t(report.content.objects)},
                       {"files", int64_t(report.content.files)},
                       {"xorbs", int64_t(report.content.xorbs)},
                       {"bytes", int64_t(report.content.bytes + report.orphan_bytes)},
                       {"repacked", int64_t(report.repacked)}},
          "freed " + std::to_string(report.content.bytes + report.orphan_bytes) +
              " bytes: " + std::to_string(report.content.objects) + " objects, " +
              std::to_string(report.content.xorbs) + " xorbs; repacked " +
              std::to_string(report.repacked) + " repositories");
  });
}

void add_fsck(CLI::App& app) {
  auto* fsck =
      app.add_subcommand("fsck", "check everything that is stored; safe while the hub serves");
  fsck->footer("Example:\n  pretrained-hub fsck --data /srv/hub --json");
  auto o = std::make_shared<UpkeepOptions>();
  add_common(*fsck, o->common);
  fsck->add_flag("--fast", o->fast, "names and sizes only, not the bytes of large files");
  fsck->callback([o] {
    Hub hub(existing(o->common));
    auto problems = check(hub, !o->fast, terminal_progress(o->common.json));
    if (isatty(2)) std::cerr << "\r\033[K";
    Json::Array list;
    std::string text;
    for (auto& problem : problems) {
      list.push_back(printable(problem, 1000));
      text += printable(problem, 1000) + "\n";
    }
    print(o->common, Json::Object{{"problems", list}}, problems.empty() ? "sound" : text);
    if (!problems.empty())
      throw FormatError(o->common.data.string() + ": " + std::to_string(problems.size()) +
                        " problems found");
  });
}

void add_backup(CLI::App& app) {
  auto* command = app.add_subcommand("backup", "copy the hub into a new folder, while it serves");
  command->footer("Example:\n  pretrained-hub backup /backups/2026-11-24 --data /srv/hub");
  auto o = std::make_shared<UpkeepOptions>();
  add_common(*command, o->common);
  command->add_option("folder", o->folder, "a folder that does not exist yet")->required();
  command->add_flag("--link", o->link, "hard links instead of copies, on the same file system");
  command->callback([o] {
    Hub hub(existing(o->common));
    backup(hub, o->folder, o->link, terminal_progress(o->common.json));
    if (isatty(2)) std::cerr << "\r\033[K";
    print(o->common, Json::Object{{"folder", o->folder.string()}},
          "copied to " + o->folder.string());
  });
}

void add_restore(CLI::App& app) {
  auto* command = app.add_subcommand("restore", "make a data folder of a backup, and check it");
  command->footer("Example:\n  pretrained-hub restore /backups/2026-11-24 --data /srv/hub-again");
  auto o = std::make_shared<UpkeepOptions>();
  add_common(*command, o->common);
  command->add_option("folder", o->folder, "what backup made")->required();
  command->callback([o] {
    Common from{o->folder, false};
    HubOptions options = existing(from);
    if (fs::exists(o->common.data / "hub.db"))
      throw ArgumentError(o->common.data.string() +
                          ": a hub lies here already; name another folder");
    {
      Hub hub(options);
      fs::remove_all(o->common.data.string() + ".restoring");
      backup(hub, o->common.data.string() + ".restoring", false, terminal_progress(o->common.json));
    }
    if (fs::exists(o->common.data)) fs::remove(o->common.data);  // an empty folder
    fs::rename(o->common.data.string() + ".restoring", o->common.data);
    Hub hub(existing(o->common));
    auto problems = check(hub, false, terminal_progress(o->common.json));
    if (!problems.empty()) throw FormatError("the backup is damaged: " + problems[0]);
    print(o->common, Json::Object{{"data", o->common.data.string()}},
          "restored to " + o->common.data.string());
  });
}

void add_migrate(CLI::App& app) {
  auto* command =
      app.add_subcommand("migrate", "bring the database to this version (serve does it too)");
  command->footer("Example:\n  pretrained-hub migrate --data /srv/hub");
  auto o = std::make_shared<UpkeepOptions>();
  add_common(*command, o->common);
  command->callback([o] {
    Hub hub(existing(o->common));
    int version = Database::schema_version();
    print(o->common, Json::Object{{"schema_version", version}},
          "schema version " + std::to_string(version));
  });
}

}  // namespace pretrained::server
