// Pictures and the like for discussions: `HfApi.upload_attachment`.

#include "server/repos/attachments.h"

#include "server/api/serve.h"

namespace pretrained::server {
namespace {

Attachments attachments(Call& call) { return {call.services.database, call.services.blobs}; }

// A fine-grained token that may write to no repository takes part in no discussion.
const Account& require_writer(Call& call) {
  const Account& user = require_user(call, true);
  const auto& token = call.caller.token;
  bool writes = !token || token->role != "fineGrained";
  if (!writes)
    for (const auto& [scope, role] : token->scopes) writes = writes || role >= Role::write;
  if (!writes) throw HttpError(403, "", "This token may only read; this needs one that may write");
  return user;
}

Attachment require_attachment(Call& call) {
  auto found = attachments(call).find(call.captures.at("file"));
  if (!found) throw HttpError(404, "EntryNotFound", "Attachment not found");
  return *found;
}

Response upload(Call& call) {
  const Account& user = require_writer(call);
  std::string type(call.request.headers.get("Content-Type"));
  auto kind = attachment_kind(type.substr(0, type.find(';')));
  if (!kind)
    throw HttpError(415, "",
                    "Content-Type '" + printable(type) +
                        "': expected image/png, image/jpeg, image/gif, image/webp, video/mp4, "
                        "video/quicktime, video/webm, audio/mpeg or audio/wav");
  Body& body = *call.request.body;
  if (body.length().value_or(0) > kind->limit)
    throw HttpError(413, "",
                    "An attachment of " + std::to_string(*body.length()) + " bytes; of " +
                        kind->content_type + " at most " + std::to_string(kind->limit) +
                        " are taken");
  Attachment made = attachments(call).store(
      user, *kind, [&](char* data, size_t n) { return body.read(data, n); });
  Response response;
  response.headers.set("Content-Type", "text/plain; charset=utf-8");
  response.body = call.request.base_url + "/uploads/" + made.name;
  return response;
}

Response show(Call& call) {
  if (call.services.options.anonymous == Role::none) require_user(call);
  Attachment found = require_attachment(call);
  Response response;
  response.headers.set("ETag", "\"" + found.name + "\"");
  response.headers.set("Content-Type", found.content_type);
  response.headers.set("Cache-Control", "private, max-age=31536000, immutable");
  response.headers.set("Content-Security-Policy", "default-src 'none'; sandbox");
  response.headers.set("Referrer-Policy", "no-referrer");
  serve_file(call, response, call.services.blobs.open(found.blob), found.size);
  return response;
}

Response remove(Call& call) {
  const Account& user = require_writer(call);
  Attachment found = require_attachment(call);
  if (found.user != user.id && !user.is_admin)
    throw HttpError(403, "", "Only who uploaded it and administrators of the hub may do this");
  attachments(call).remove(found);
  call.services.accounts.audit(call.caller, "attachment.delete", found.name);
  return json_response(Json::Object{});
}

}  // namespace

std::vector<Route<ApiHandler>> attachment_routes() {
  return {{"POST", "/uploads", upload},
          {"GET", "/uploads/{file}", show},
          {"DELETE", "/uploads/{file}", remove}};
}

}  // namespace pretrained::server
