// Who one is, and logging in without a browser at hand (RFC 8628), with the page on which a person
// approves it. The page knows no cookies: whoever approves types a password or token into the form,
// so a page of another site has no right of the visitor's to abuse; the form's own signature and
// the Origin check keep others from posting it all the same.

#include "server/api/common.h"

namespace pretrained::server {
namespace {

constexpr int64_t kFormSeconds = 15 * 60;

Json avatar(const Call& call) { return call.request.base_url + "/favicon.ico"; }

Json org_facts(const Call& call, const Accounts::Member& member) {
  return Json::Object{
      {"type", "org"},
      {"id", std::to_string(member.account.id)},
      {"name", member.account.name},
      {"fullname", member.account.fullname.empty() ? member.account.name : member.account.fullname},
      {"email", Json()},
      {"canPay", false},
      {"isEnterprise", false},
      {"avatarUrl", avatar(call)},
      {"roleInOrg", std::string(to_string(member.role))}};
}

Response whoami(Call& call) {
  const Account& user = require_user(call);
  Json::Array orgs;
  for (const auto& member : call.services.accounts.orgs_of(user.id))
    orgs.push_back(org_facts(call, member));
  Json::Object token{{"displayName", ""}, {"role", "write"}, {"createdAt", iso8601(0)}};
  if (call.caller.token)
    token = {{"displayName", call.caller.token->name},
             {"role", call.caller.token->role},
             {"createdAt", iso8601(call.caller.token->created_at)}};
  return json_response(
      Json::Object{{"type", "user"},
                   {"id", std::to_string(user.id)},
                   {"name", user.name},
                   {"fullname", user.fullname.empty() ? user.name : user.fullname},
                   {"email", user.email},
                   {"emailVerified", false},
                   {"canPay", false},
                   {"isPro", false},
                   {"periodEnd", Json()},
                   {"avatarUrl", avatar(call)},
                   {"billingMode", "prepaid"},
                   {"orgs", orgs},
                   {"auth", Json::Object{{"type", "access_token"}, {"accessToken", token}}}});
}

// ---- device flow
// -----------------------------------------------------------------------------------

using Fields = std::vector<std::pair<std::string, std::string>>;

std::string field(const Fields& fields, const std::string& name) {
  for (const auto& [key, value] : fields)
    if (key == name) return value;
  return "";
}

// Forms, as the RFC says; some clients send JSON.
Fields read_fields(Call& call) {
  if (!call.request.headers.get("Content-Type").starts_with("application/json"))
    return read_form(call, 64 << 10);
  Fields fields;
  Json body = read_json(call, 64 << 10);
  for (const auto& [name, value] : *body.get_if<Json::Object>())
    if (auto text = value.get_if<std::string>()) fields.emplace_back(name, *text);
  return fields;
}

Response oauth_response(const Json& value, int status = 200) {
  Response response = json_response(value, status);
  response.headers.set("Cache-Control", "no-store");
  return response;
}

Response start_device_login(Call& call) {
  Fields fields = read_fields(call);
  std::string client = field(fields, "client_id");
  if (client.empty() || client.size() > 200)
    return oauth_response(Json::Object{{"error", "invalid_client"},
                                       {"error_description", "client_id: 1 to 200 bytes"}},
                          400);
  call.services.blobs.check_space();
  auto code = call.services.accounts.start_device_login(client, call.caller.address);
  std::string page = call.request.base_url + "/oauth/approve";
  return oauth_response(Json::Object{
      {"device_code", code.device_code},
      {"user_code", code.user_code},
      {"verification_uri", page},
      {"verification_uri_complete", page + "?user_code=" + percent_encode(code.user_code)},
      {"expires_in", code.expires_in},
      {"interval", code.interval}});
}

Response give_token(Call& call) {
  Fields fields = read_fields(call);
  std::string kind = field(fields, "grant_type");
  Accounts::Grant grant;
  if (kind == "urn:ietf:params:oauth:grant-type:device_code")
    grant = call.services.accounts.poll_device_login(field(fields, "device_code"));
  else if (kind == "refresh_token")
    grant = call.services.accounts.refresh(field(fields, "refresh_token"));
  else
    grant.error = "unsupported_grant_type";
  if (!grant.error.empty()) return oauth_response(Json::Object{{"error", grant.error}}, 400);
  return oauth_response(Json::Object{{"access_token", grant.access_token},
                                     {"token_type", "bearer"},
                                     {"expires_in", grant.expires_in},
                                     {"refresh_token", grant.refresh_token}});
}

// ---- the approval page
// -------------------------------------------------------------------------------

std::string escape_html(const std::string& text) {
  std::string safe;
  for (char c : printable(text, 500)) switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  return safe;
}

Response html_page(const std::string& title, const std::string& main, int status = 200) {
  Response response;
  response.status = status;
  response.headers.set("Content-Type", "text/html; charset=utf-8");
  response.headers.set("Cache-Control", "no-store");
  // Not "no-referrer": browsers then say "Origin: null" when the form is sent.
  response.headers.set("Referrer-Policy", "same-origin");
  response.headers.set("X-Frame-Options", "DENY");
  response.headers.set("Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
                       "frame-ancestors 'none'; base-uri 'none'");
  response.body =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
      escape_html(title) +
      "</title>\n<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:2rem auto;"
      "padding:0 1rem}label{display:block;margin-top:1rem}input{font:inherit;width:100%;"
      "box-sizing:border-box;padding:.4rem}button{font:inherit;margin:1rem 1rem 0 0;"
      "padding:.4rem 1.2rem}.error{color:#a00}code{font-size:1.4rem}</style>\n</head>\n"
      "<body>\n<main>\n<h1>" +
      escape_html(title) + "</h1>\n" + main + "</main>\n</body>\n</html>\n";
  return response;
}

Response form_page(Call& call, const std::string& code, const std::string& error = "",
                   int status = 200) {
  int64_t expires = now_ms() / 1000 + kFormSeconds;
  std::string main;
  if (!error.empty()) main += "<p class=\"error\" role=\"alert\">" + escape_html(error) + "</p>\n";
  main +=
      "<p>A program asks to log in as you. Approve only if you started it yourself and it shows "
      "the code below: it will be able to do everything that you can do here.</p>\n"
      "<form method=\"post\" action=\"/oauth/approve\" autocomplete=\"off\">\n"
      "<label for=\"code\">Code</label>\n<input id=\"code\" name=\"user_code\" required "
      "maxlength=\"20\" value=\"" +
      escape_html(code) +
      "\">\n<label for=\"name\">User name</label>\n<input id=\"name\" name=\"name\" "
      "autocomplete=\"username\" maxlength=\"96\">\n"
      "<label for=\"password\">Password</label>\n<input id=\"password\" name=\"password\" "
      "type=\"password\" autocomplete=\"current-password\" maxlength=\"1024\">\n"
      "<label for=\"token\">or an access token that may write</label>\n<input id=\"token\" "
      "name=\"token\" type=\"password\" maxlength=\"200\">\n<input type=\"hidden\" "
      "name=\"form\" value=\"" +
      std::to_string(expires) + "." + sign(call.services, {"approve"}, expires) +
      "\">\n<button name=\"decision\" value=\"approve\">Approve</button>\n"
      "<button name=\"decision\" value=\"deny\">Deny</button>\n</form>\n";
  return html_page("Log in a device", main, status);
}

bool from_our_form(Call& call, const Fields& fields) {
  std::string_view origin = call.request.headers.get("Origin");
  if (!origin.empty() && origin != call.request.base_url) return false;
  std::string_view site = call.request.headers.get("Sec-Fetch-Site");
  if (!site.empty() && site != "same-origin" && site != "none") return false;
  std::string form = field(fields, "form");
  size_t dot = form.find('.');
  if (dot == form.npos || dot == 0 || dot > 12) return false;
  int64_t expires = 0;
  for (char c : form.substr(0, dot)) {
    if (c < '0' || c > '9') return false;
    expires = expires * 10 + (c - '0');
  }
  return verify_signature(call.services, {"approve"}, expires, form.substr(dot + 1));
}

// The user whose password or token was typed.
std::optional<Account> who_approves(Call& call, const Fields& fields) {
  auto& accounts = call.services.accounts;
  if (std::string token = field(fields, "token"); !token.empty()) {
    auto caller = accounts.authenticate(token);
    // What it gives may do everything, so a token that may less cannot give it.
    bool full = caller && caller->token && caller->token->role == "write";
    return full ? caller->user : std::nullopt;
  }
  std::string name = field(fields, "name"), password = field(fields, "password");
  if (name.empty() || password.empty()) return std::nullopt;
  return accounts.check_password(name, password, call.caller.address);
}

Response show_approval(Call& call) {
  return form_page(call, call.request.parameter("user_code").value_or(""));
}

Response approve(Call& call) {
  Fields fields = read_form(call, 64 << 10);
  std::string code = field(fields, "user_code"), decision = field(fields, "decision");
  if (!from_our_form(call, fields))
    return form_page(call, code, "This form has expired. Please try again.", 403);
  if (decision != "approve" && decision != "deny")
    return form_page(call, code, "Please choose: approve or deny.", 400);
  auto user = who_approves(call, fields);
  if (!user)
    return form_page(call, code, "Wrong user name, password or token, or the token may only read.",
                     403);
  auto done = call.services.accounts.decide_device_login(code, user->id, decision == "approve",
                                                         call.caller.address);
  if (done == Accounts::Decision::unknown)
    return form_page(call, code, "No login waits for this code. It may have expired.", 404);
  Caller approver = call.caller;
  approver.user = user;
  call.services.accounts.audit(approver, "device." + decision, user->name);
  return html_page(decision == "approve" ? "Approved" : "Denied",
                   "<p>You can close this page and go back to the program.</p>\n");
}

}  // namespace

std::vector<Route<ApiHandler>> account_routes() {
  return {
      {"GET", "/api/whoami-v2", whoami},    {"POST", "/oauth/device", start_device_login},
      {"POST", "/oauth/token", give_token}, {"GET", "/oauth/approve", show_approval},
      {"POST", "/oauth/approve", approve},
  };
}

}  // namespace pretrained::server
