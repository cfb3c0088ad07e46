#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <fstream>
#include <iostream>
#include <mutex>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/version.h"
#include "server/commands/commands.h"
#include "server/commands/maintenance.h"
#include "server/http/listener.h"
#include "server/repos/webhooks.h"

// pretrained-hub serve.

namespace pretrained::server {
namespace {

struct ServeOptions {
  Common common;
  std::string listen = "127.0.0.1:8080", anonymous = "read", access_log = "-", reserve = "1GiB",
              gc_interval = "6h", lfs_part = "0";
  bool anonymous_anywhere = false, webhooks_private = false;
  std::vector<std::string> allowed_hosts;
  ListenerOptions listener;
  HubOptions hub;
};

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.rfind("127.", 0) == 0;
}

void split_address(const std::string& text, ListenerOptions& listener) {
  auto colon = text.rfind(':');
  std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (port.empty() || port.size() > 5 ||
      port.find_first_not_of("0123456789") != std::string::npos || std::stoi(port) > 65535)
    throw ArgumentError("--listen '" + printable(text) +
                        "': expected ADDRESS:PORT, such as 127.0.0.1:8080");
  listener.address = text.substr(0, colon);
  if (listener.address.size() > 2 && listener.address.front() == '[')
    listener.address = listener.address.substr(1, listener.address.size() - 2);
  if (listener.address == "localhost") listener.address = "127.0.0.1";
  listener.port = uint16_t(std::stoi(port));
}

void check_external_url(std::string& url) {
  while (url.ends_with("/")) url.pop_back();
  if (!url.empty() && !url.starts_with("https://") && !url.starts_with("http://"))
    throw ArgumentError("--external-url '" + printable(url) +
                        "': expected http://… or https://…, such as https://hub.example.org");
}

void check_anonymous(const ServeOptions& o, AppOptions& app) {
  auto role = parse_role(o.anonymous);
  if (!role || *role == Role::admin)
    throw ArgumentError("--anonymous: expected none, read or write, got '" +
                        printable(o.anonymous) + "'");
  app.anonymous = *role;
  if (*role == Role::write && !is_loopback(o.listener.address) && !o.anonymous_anywhere)
    throw ArgumentError("--anonymous write lets everybody who reaches " + o.listener.address +
                        " write: add --anonymous-anywhere if that is meant");
}

// Where browsers reach the hub but strangers do not, or where its name is known, no page of another
// site may call it by a name of that site.
void limit_hosts(ServeOptions& o) {
  const std::string& url = o.listener.external_url;
  if (!is_loopback(o.listener.address) && url.empty() && o.allowed_hosts.empty()) return;
  o.listener.hosts = o.allowed_hosts;
  if (url.empty()) return;
  std::string host = url.substr(url.find("://") + 3);
  o.listener.hosts->push_back(host.substr(0, host.find_first_of(":/")));
}

// JSON lines, one an exchange. Queries are left out: they may hold signatures.
class AccessLog {
 public:
  explicit AccessLog(const std::string& target) {
    if (target == "none") return;
    if (target == "-") {
      stream_ = &std::cout;
      return;
    }
    file_.open(target, std::ios::app);
    if (!file_) throw IoError(target + ": cannot be written: the access log");
    stream_ = &file_;
  }
  void write(const Exchange& exchange) {
    ++requests_;
    bytes_ += exchange.bytes_in + exchange.bytes_out;
    if (!stream_) return;
    const Request& request = exchange.request;
    Json line = Json::Object{{"time", iso8601(now_ms())},
                             {"request_id", request.request_id},
                             {"address", request.remote_address},
                             {"method", request.method},
                             {"path", request.target.substr(0, request.target.find('?'))},
                             {"status", exchange.status},
                             {"bytes_in", int64_t(exchange.bytes_in)},
                             {"bytes_out", int64_t(exchange.bytes_out)},
                             {"ms", double(exchange.duration.count()) / 1000},
                             {"user_agent", std::string(request.headers.get("user-agent"))},
                             {"complete", exchange.complete}};
    std::string text = line.dump(0) + "\n";
    std::lock_guard lock(mutex_);
    (*stream_) << text << std::flush;
  }
  uint64_t requests() const { return requests_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::mutex mutex_;
  std::ofstream file_;
  std::ostream* stream_ = nullptr;
  std::atomic<uint64_t> requests_{0}, bytes_{0};
};

void say(const std::string& text) {
  std::cerr << "pretrained-hub: " << printable(text, 1000) << std::endl;
}

void reload_certificate(Listener& listener) {
  try {
    listener.reload_certificate();
    say("the certificate was read again");
  } catch (const Error& error) {
    say(std::string("the certificate stays as it was: ") + error.what());
  }
}

// Waits for SIGINT or SIGTERM, with a status line on a terminal meanwhile.
void wait_for_signal(const sigset_t& signals, Listener& listener, const AccessLog& log, bool show) {
  uint64_t requests = log.requests(), bytes = log.bytes();
  timespec second{1, 0};
  for (int signal = 0; signal != SIGINT && signal != SIGTERM;) {
    signal = sigtimedwait(&signals, nullptr, &second);
    if (signal == SIGHUP) reload_certificate(listener);
    if (!show) continue;
    uint64_t r = log.requests(), b = log.bytes();
    std::fprintf(stderr, "\r%zu connections  %zu active  %llu requests/s  %.1f MB/s\033[K",
                 listener.load().connections, listener.load().active,
                 static_cast<unsigned long long>(r - requests), double(b - bytes) / 1e6);
    requests = r;
    bytes = b;
  }
  if (show) std::fputs("\r\033[K", stderr);
}

void announce(const ServeOptions& o, const Listener& listener, const std::filesystem::path& token) {
  std::string scheme = o.listener.certificate.empty() ? "http" : "https",
              host = o.listener.address.find(':') == std::string::npos
                         ? o.listener.address
                         : "[" + o.listener.address + "]",
              url = o.listener.external_url.empty()
                        ? scheme + "://" + host + ":" + std::to_string(listener.port())
                        : o.listener.external_url;
  if (o.common.json) {
    std::cerr << Json(Json::Object{{"url", url},
                                   {"port", int(listener.port())},
                                   {"admin_token_file", token.string()}})
                     .dump(0)
              << std::endl;
    return;
  }
  std::cerr << "pretrained-hub " << kVersion << " serves " << o.common.data.string() << " at "
            << url << "\n";
  if (!token.empty()) std::cerr << "the administrator's token is in " << token.string() << "\n";
  std::cerr << "clients need HF_ENDPOINT=" << url << std::endl;
}

void serve(ServeOptions& o) {
  split_address(o.listen, o.listener);
  check_external_url(o.listener.external_url);
  limit_hosts(o);
  check_anonymous(o, o.hub.app);
  o.hub.data = o.common.data;
  o.hub.disk_reserve = parse_size("--disk-reserve", o.reserve);
  o.hub.app.lfs_part_bytes = parse_size("--lfs-part-size", o.lfs_part);
  int64_t gc_interval =
      o.gc_interval == "never" ? 0 : parse_duration("--gc-interval", o.gc_interval);
  // Blocked before the first thread starts, so that only the one that waits gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  if (!o.listener.certificate.empty()) sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  AccessLog log(o.access_log);
  // First of all, so that a port that is taken leaves no new data folder behind.
  std::optional<App> app;
  Listener listener(
      o.listener, [&](Request& request) { return app->handle(request); },
      [&](const Exchange& exchange) { log.write(exchange); });
  Hub hub(o.hub);
  std::filesystem::path token = ensure_admin(hub);
  app.emplace(hub.services());
  Webhooks webhooks(hub.database, o.webhooks_private);
  Upkeep upkeep(hub, gc_interval, say);
  if (std::filesystem::path file = hub.data / "admin-token"; std::filesystem::exists(file))
    token = file;  // of an earlier start, which may have failed before it said so
  announce(o, listener, token);
  std::thread serving([&] { listener.run(); });
  wait_for_signal(signals, listener, log, !o.common.json && o.access_log != "-" && isatty(2));
  listener.stop();
  serving.join();
}

}  // namespace

void add_serve(CLI::App& app) {
  auto* command = app.add_subcommand("serve", "run the hub");
  command->footer(
      "Examples:\n"
      "  pretrained-hub serve --data /srv/hub\n"
      "  pretrained-hub serve --data /srv/hub --listen 0.0.0.0:443 --certificate c.pem --key "
      "k.pem\n"
      "  pretrained-hub serve --data /srv/hub --external-url https://hub.example.org "
      "--trusted-proxy 127.0.0.1");
  auto o = std::make_shared<ServeOptions>();
  add_common(*command, o->common);
  command->add_option("--listen", o->listen, "ADDRESS:PORT; port 0: any free one (127.0.0.1:8080)");
  command->add_option("--external-url", o->listener.external_url,
                      "what clients are told, behind a proxy: https://hub.example.org");
  command->add_option("--allowed-host", o->allowed_hosts,
                      "a further name that clients may use for the hub");
  command->add_option("--trusted-proxy", o->listener.trusted_proxies,
                      "believe X-Forwarded-… of this address or network");
  command->add_option("--certificate", o->listener.certificate, "PEM file: serve TLS");
  command->add_option("--key", o->listener.key, "PEM file of its key");
  command->add_option(
      "--anonymous", o->anonymous,
      "what strangers without a token may do with public repositories: none, read, write (read)");
  command->add_flag("--anonymous-anywhere", o->anonymous_anywhere,
                    "allow --anonymous write beyond this machine");
  command->add_option("--workers", o->listener.workers, "requests in progress at once (64)")
      ->check(CLI::Range(1, 4096));
  command
      ->add_option("--rate-limit", o->hub.app.rate_limit,
                   "requests of one caller in a window (5000); 0: no limit")
      ->check(CLI::Range(0, 1'000'000'000));
  command->add_option("--rate-window", o->hub.app.rate_window_seconds, "seconds of a window (300)")
      ->check(CLI::Range(1, 86'400));
  command->add_option("--disk-reserve", o->reserve, "space that stays free on the disk (1GiB)");
  command->add_option("--lfs-part-size", o->lfs_part,
                      "offer LFS multipart in parts of this size (0: no)");
  command->add_option("--gc-interval", o->gc_interval, "collect garbage this often, or never (6h)");
  command->add_option("--access-log", o->access_log, "a file, - (standard output) or none (-)");
  command->add_flag("--webhooks-to-private-addresses", o->webhooks_private,
                    "webhooks may call this machine and its network");
  command->callback([o] { serve(*o); });
}

}  // namespace pretrained::server
