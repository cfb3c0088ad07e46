// What is asked beside the point: cards, telemetry, health, metrics.

#include "server/api/common.h"

namespace pretrained::server {
namespace {

Response text_response(std::string text, const char* type = "text/plain; charset=utf-8") {
  Response response;
  response.headers.set("Content-Type", type);
  response.body = std::move(text);
  return response;
}

Json messages(const std::vector<std::string>& texts) {
  Json::Array list;
  for (const auto& text : texts) list.push_back(Json::Object{{"message", text}});
  return list;
}

Response validate_yaml(Call& call) {
  Json body = read_json(call, 8 << 20);
  auto problems = check_card(string_field(body, "content"),
                             optional_string_field(body, "repoType").value_or("model"));
  return json_response(Json::Object{{"errors", messages(problems.errors)},
                                    {"warnings", messages(problems.warnings)}},
                       problems.errors.empty() ? 200 : 400);
}

Response agent_harnesses(Call&) { throw HttpError(404, "", "Not kept here"); }
Response empty_object(Call&) { return json_response(Json::Object{}); }

Response healthz(Call& call) {
  call.services.database.read([](Transaction& t) { t.one("SELECT 1"); });
  return text_response("ok\n");
}

Response favicon(Call&) {
  Response response = text_response(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><rect width=\"16\" "
      "height=\"16\" rx=\"3\" fill=\"#345\"/><path d=\"M4 4h5a3 3 0 0 1 0 6H6v3H4z\" "
      "fill=\"#fff\"/></svg>\n",
      "image/svg+xml");
  response.headers.set("Cache-Control", "max-age=86400");
  return response;
}

Response robots(Call&) { return text_response("User-agent: *\nDisallow: /\n"); }

// ---- metrics
// ------------------------------------------------------------------------------------------

class Metrics {
 public:
  void add(const std::string& name, const std::string& type, const std::string& help) {
    text_ += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
    name_ = name;
  }
  void value(uint64_t value, const std::string& labels = "") {
    text_ += name_ + labels + " " + std::to_string(value) + "\n";
  }
  void one(const std::string& name, const std::string& type, const std::string& help,
           uint64_t number) {
    add(name, type, help);
    value(number);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_, name_;
};

// Sizes and counts say something of private repositories too.
void require_operator(const Call& call) {
  const std::string& address = call.caller.address;
  // A proxy on this machine that the hub was not told to trust is no local caller.
  bool local = (address == "::1" || address.starts_with("127.")) &&
               !call.request.headers.has("X-Forwarded-For");
  bool admin = call.caller.user && call.caller.user->is_admin;
  if (!local && !admin)
    throw HttpError(403, "", "Metrics are for this machine and for administrators of the hub");
}

Response metrics(Call& call) {
  require_operator(call);
  const Counters& counters = *call.services.counters;
  Metrics out;
  out.add("hub_requests_total", "counter", "Answers by class of status.");
  for (size_t i = 1; i < counters.answers.size(); ++i)
    out.value(counters.answers[i], "{class=\"" + std::to_string(i) + "xx\"}");
  out.one("hub_requests_active", "gauge", "Requests in a handler.", counters.active);
  out.one("hub_rate_limited_total", "counter", "Requests answered 429.", counters.limited);
  out.one("hub_bad_credentials_total", "counter", "Requests with an unknown token.",
          counters.bad_credentials);
  out.one("hub_internal_errors_total", "counter", "Requests answered 500.",
          counters.internal_errors);
  out.one("hub_start_time_seconds", "gauge", "Start of the process, seconds since 1970.",
          uint64_t(counters.started_at / 1000));
  call.services.database.read([&](Transaction& t) {
    out.add("hub_repositories", "gauge", "Repositories by type.");
    for (const auto& row : t.query("SELECT type, count(*) FROM repos GROUP BY type"))
      out.value(uint64_t(row.integer(1)), "{type=\"" + row.text(0) + "\"}");
    auto number = [&](const char* sql) { return uint64_t(t.one(sql)->integer(0)); };
    out.one("hub_xorb_bytes", "gauge", "Bytes of large content, as stored.",
            number("SELECT coalesce(sum(bytes), 0) FROM xorbs"));
    out.one("hub_pack_bytes", "gauge", "Bytes of git packs.",
            number("SELECT coalesce(sum(bytes), 0) FROM packs"));
    out.add("hub_webhook_deliveries", "gauge", "Deliveries by state.");
    for (const auto& row : t.query("SELECT status, count(*) FROM deliveries GROUP BY status"))
      out.value(uint64_t(row.integer(1)), "{status=\"" + row.text(0) + "\"}");
  });
  return text_response(out.take(), "text/plain; version=0.0.4; charset=utf-8");
}

}  // namespace

std::vector<Route<ApiHandler>> misc_routes() {
  return {
      {"POST", "/api/validate-yaml", validate_yaml},
      {"GET", "/api/agent-harnesses", agent_harnesses},
      {"GET", "/api/telemetry/{topic...}", empty_object},
      {"GET", "/api/{list:models-tags-by-type|datasets-tags-by-type}", empty_object},
      {"GET", "/healthz", healthz},
      {"GET", "/metrics", metrics},
      {"GET", "/favicon.ico", favicon},
      {"GET", "/robots.txt", robots},
  };
}

}  // namespace pretrained::server
