#include <CLI/CLI.hpp>

#include "server/commands/commands.h"

// pretrained-hub audit: who changed what.

namespace pretrained::server {
namespace {

struct AuditOptions {
  Common common;
  int64_t last = 100;
  std::string account, action;
};

void show(const AuditOptions& o) {
  Hub hub(existing(o.common));
  Json::Array list;
  std::string text;
  for (const auto& entry : hub.accounts.audit_log(o.last, o.account, o.action)) {
    list.push_back(Json::Object{{"at", iso8601(entry.at)},
                                {"account", entry.account},
                                {"address", entry.address},
                                {"request_id", entry.request},
                                {"action", entry.action},
                                {"subject", entry.subject},
                                {"detail", entry.detail}});
    text += (text.empty() ? "" : "\n") + iso8601(entry.at) + "  " +
            (entry.address == "console" ? "console" : entry.account + " " + entry.address) + "  " +
            entry.action + "  " + entry.subject + (entry.detail.empty() ? "" : "  ") + entry.detail;
  }
  print(o.common, list, text);
}

}  // namespace

void add_audit(CLI::App& app) {
  auto* command = app.add_subcommand("audit", "show who changed what, the newest at the end");
  command->footer(
      "Examples:\n  pretrained-hub audit --data /srv/hub\n"
      "  pretrained-hub audit --account alice --action repo.delete --json --data /srv/hub");
  auto o = std::make_shared<AuditOptions>();
  add_common(*command, o->common);
  command->add_option("--last", o->last, "how many entries (100)")->check(CLI::Range(1, 1'000'000));
  command->add_option("--account", o->account, "of this user only");
  command->add_option("--action", o->action, "of this kind only: repo.delete, token.create, …");
  command->callback([o] { show(*o); });
}

}  // namespace pretrained::server
