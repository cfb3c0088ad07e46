#include "pretrained/safetensors/pickle.h"

#include <cstring>
#include <unordered_map>

#include "pretrained/base/error.h"
#include "pretrained/safetensors/zip.h"

namespace pretrained::safetensors {
namespace {

constexpr size_t kMaxNodes = 20'000'000, kMaxStack = 1'000'000;

enum class Kind {
  none,
  boolean,
  integer,
  real,
  text,
  tuple,
  list,
  dict,
  global,
  storage,
  tensor,
  mark
};

using Id = uint32_t;

// Values live in one arena and refer to each other by place, so that hostile nesting and cycles
// cost no recursion.
struct Node {
  Kind kind = Kind::none;
  int64_t integer = 0;
  std::string text;       // string, global as "module.name", storage key
  std::vector<Id> items;  // of tuple and list; of dict: key, value, key, value
};

struct Storage {
  const char* name;
  Dtype dtype;
};
constexpr Storage kStorages[] = {
    {"torch.BoolStorage", Dtype::BOOL},        {"torch.ByteStorage", Dtype::U8},
    {"torch.CharStorage", Dtype::I8},          {"torch.ShortStorage", Dtype::I16},
    {"torch.HalfStorage", Dtype::F16},         {"torch.BFloat16Storage", Dtype::BF16},
    {"torch.IntStorage", Dtype::I32},          {"torch.FloatStorage", Dtype::F32},
    {"torch.ComplexFloatStorage", Dtype::C64}, {"torch.DoubleStorage", Dtype::F64},
    {"torch.LongStorage", Dtype::I64}};

const Storage* find_storage(const std::string& name) {
  for (auto& storage : kStorages)
    if (name == storage.name) return &storage;
  return nullptr;
}

bool is_allowed(const std::string& global) {
  return global == "collections.OrderedDict" || global == "torch._utils._rebuild_tensor_v2" ||
         global == "torch._utils._rebuild_parameter" || find_storage(global);
}

class Machine {
 public:
  Machine(std::string_view code, const std::string& source) : code_(code), source_(source) {}

  Id run() {
    for (;;) {
      auto op = static_cast<unsigned char>(take(1)[0]);
      if (op == '.') return pop();
      step(op);
    }
  }
  const Node& node(Id id) const { return nodes_[id]; }
  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(source_ + ": " + what);
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > code_.size() - at_) fail("the pickle is truncated");
    at_ += count;
    return code_.substr(at_ - count, count);
  }
  uint64_t number(int size) {
    uint64_t value = 0;
    auto bytes = take(uint64_t(size));
    for (int i = size - 1; i >= 0; --i)
      value = value << 8 | static_cast<unsigned char>(bytes[size_t(i)]);
    return value;
  }
  std::string line() {
    size_t end = code_.find('\n', at_);
    if (end == code_.npos || end - at_ > 1000) fail("the pickle is truncated");
    std::string text(code_.substr(at_, end - at_));
    at_ = end + 1;
    return text;
  }
  Id add(Node node) {
    if (nodes_.size() == kMaxNodes) fail("the pickle holds too many values");
    nodes_.push_back(std::move(node));
    return Id(nodes_.size() - 1);
  }
  void push(Id id) {
    if (stack_.size() == kMaxStack) fail("the pickle's stack is too deep");
    stack_.push_back(id);
  }
  void push(Node node) { push(add(std::move(node))); }
  Id pop() {
    if (stack_.empty()) fail("the pickle takes from an empty stack");
    Id id = stack_.back();
    stack_.pop_back();
    return id;
  }
  Id top() {
    if (stack_.empty()) fail("the pickle takes from an empty stack");
    return stack_.back();
  }
  std::vector<Id> pop_to_mark() {
    size_t place = stack_.size();
    while (place > 0 && nodes_[stack_[place - 1]].kind != Kind::mark) --place;
    if (place == 0) fail("the pickle has no mark where it needs one");
    std::vector<Id> items(stack_.begin() + std::ptrdiff_t(place), stack_.end());
    stack_.resize(place - 1);
    return items;
  }
  void push_tuple(size_t count) {
    Node tuple{Kind::tuple, 0, "", std::vector<Id>(count)};
    for (size_t i = count; i-- > 0;) tuple.items[i] = pop();
    push(std::move(tuple));
  }
  void push_global(const std::string& name) {
    if (!is_allowed(name))
      fail("refuses the global '" + printable(name) +
           "': only tensors and containers are read from old checkpoints");
    push(Node{Kind::global, 0, name, {}});
  }
  [[noreturn]] void refuse_construction(const char* how) {
    std::string what;
    for (size_t i = stack_.size(); i-- > 0 && what.empty();)
      if (nodes_[stack_[i]].kind == Kind::global)
        what = " of '" + printable(nodes_[stack_[i]].text) + "'";
    fail(std::string("refuses the instruction ") + how + what +
         ": only tensors and containers are read from old checkpoints");
  }
  void extend(Id container, const std::vector<Id>& items, Kind kind) {
    Node& target = nodes_[container];
    if (target.kind != kind || (kind == Kind::dict && items.size() % 2))
      fail("the pickle adds to something that is no container");
    target.items.insert(target.items.end(), items.begin(), items.end());
    added_ += items.size();
    if (added_ > kMaxNodes) fail("the pickle holds too many values");
  }

  void step(unsigned char op);
  void step_containers(unsigned char op);
  void reduce();
  void build();
  void persistent_id();
  void set_memo(uint64_t place) {
    if (place > kMaxNodes) fail("the pickle's memo is too large");
    memo_[place] = top();
  }
  void get_memo(uint64_t place) {
    auto found = memo_.find(place);
    if (found == memo_.end()) fail("the pickle asks for something it has not stored");
    push(found->second);
  }

  std::string_view code_;
  const std::string& source_;
  size_t at_ = 0, added_ = 0;
  std::vector<Node> nodes_;
  std::vector<Id> stack_;
  std::unordered_map<uint64_t, Id> memo_;
};

void Machine::step(unsigned char op) {
  switch (op) {
    case 0x80:
      take(1);
      break;  // PROTO
    case 0x95:
      take(8);
      break;  // FRAME
    case 'N':
      push(Node{Kind::none, 0, "", {}});
      break;
    case 0x88:
    case 0x89:
      push(Node{Kind::boolean, op == 0x88, "", {}});
      break;  // NEWTRUE, NEWFALSE
    case 'J':
      push(Node{Kind::integer, int32_t(number(4)), "", {}});
      break;  // BININT
    case 'K':
      push(Node{Kind::integer, int64_t(number(1)), "", {}});
      break;
    case 'M':
      push(Node{Kind::integer, int64_t(number(2)), "", {}});
      break;
    case 0x8a: {  // LONG1
      auto bytes = take(number(1));
      if (bytes.size() > 8) fail("the pickle holds an integer beyond 64 bits");
      uint64_t value = !bytes.empty() && (bytes.back() & 0x80) ? ~0ull : 0;
      for (size_t i = bytes.size(); i-- > 0;)
        value = value << 8 | static_cast<unsigned char>(bytes[i]);
      push(Node{Kind::integer, int64_t(value), "", {}});
      break;
    }
    case 'G':
      take(8);
      push(Node{Kind::real, 0, "", {}});
      break;  // BINFLOAT
    case 'X':
    case 'T':
      push(Node{Kind::text, 0, std::string(take(number(4))), {}});
      break;
    case 0x8c:
    case 'U':
      push(Node{Kind::text, 0, std::string(take(number(1))), {}});
      break;
    case 'c': {  // GLOBAL
      std::string module = line();
      push_global(module + "." + line());
      break;
    }
    case 0x93: {  // STACK_GLOBAL
      Node name = nodes_[pop()], module = nodes_[pop()];
      push_global(module.text + "." + name.text);
      break;
    }
    case 'i': {  // INST
      std::string module = line();
      fail("refuses the global '" + printable(module + "." + line()) +
           "': only tensors and containers are read from old checkpoints");
    }
    case 'o':
      refuse_construction("OBJ");
    case 0x81:
      refuse_construction("NEWOBJ");
    case 0x92:
      refuse_construction("NEWOBJ_EX");
    case 0x82:
    case 0x83:
    case 0x84:
      refuse_construction("EXT");
    case 'R':
      reduce();
      break;
    case 'b':
      build();
      break;
    case 'Q':
      persistent_id();
      break;
    case 'q':
      set_memo(number(1));
      break;
    case 'r':
      set_memo(number(4));
      break;
    case 0x94:
      set_memo(memo_.size());
      break;  // MEMOIZE
    case 'h':
      get_memo(number(1));
      break;
    case 'j':
      get_memo(number(4));
      break;
    default:
      step_containers(op);
  }
}

void Machine::step_containers(unsigned char op) {
  switch (op) {
    case '(':
      push(Node{Kind::mark, 0, "", {}});
      break;
    case '0':
      pop();
      break;
    case '}':
      push(Node{Kind::dict, 0, "", {}});
      break;
    case ']':
      push(Node{Kind::list, 0, "", {}});
      break;
    case ')':
      push_tuple(0);
      break;
    case 0x85:
      push_tuple(1);
      break;
    case 0x86:
      push_tuple(2);
      break;
    case 0x87:
      push_tuple(3);
      break;
    case 't': {
      auto items = pop_to_mark();
      push(Node{Kind::tuple, 0, "", std::move(items)});
      break;
    }
    case 'a': {
      Id item = pop();
      extend(top(), {item}, Kind::list);
      break;
    }
    case 'e': {
      auto items = pop_to_mark();
      extend(top(), items, Kind::list);
      break;
    }
    case 's': {
      Id value = pop(), key = pop();
      extend(top(), {key, value}, Kind::dict);
      break;
    }
    case 'u': {
      auto items = pop_to_mark();
      extend(top(), items, Kind::dict);
      break;
    }
    default: {
      char hex[8];
      std::snprintf(hex, sizeof hex, "0x%02x", op);
      fail(std::string("refuses the pickle instruction ") + hex);
    }
  }
}

void Machine::reduce() {
  Node arguments = nodes_[pop()], callee = nodes_[pop()];
  if (callee.kind != Kind::global || arguments.kind != Kind::tuple)
    fail("the pickle calls something that is no function");
  if (callee.text == "collections.OrderedDict") {
    if (!arguments.items.empty())
      fail("OrderedDict with arguments is not read from old checkpoints");
    push(Node{Kind::dict, 0, "", {}});
  } else if (callee.text == "torch._utils._rebuild_parameter") {
    if (arguments.items.empty()) fail("_rebuild_parameter without a tensor");
    push(arguments.items[0]);
  } else if (callee.text == "torch._utils._rebuild_tensor_v2") {
    if (arguments.items.size() < 4) fail("_rebuild_tensor_v2 with too few arguments");
    push(Node{Kind::tensor, 0, "", {arguments.items.begin(), arguments.items.begin() + 4}});
  } else {
    fail("refuses to call '" + printable(callee.text) + "'");
  }
}

// Attributes of a container (an OrderedDict's _metadata) are of no use here; setting them on
// anything else is refused.
void Machine::build() {
  pop();
  if (nodes_[top()].kind != Kind::dict) refuse_construction("BUILD");
}

void Machine::persistent_id() {
  Node id = nodes_[pop()];
  bool whole = id.kind == Kind::tuple && id.items.size() >= 5 &&
               nodes_[id.items[0]].text == "storage" && nodes_[id.items[1]].kind == Kind::global &&
               nodes_[id.items[2]].kind == Kind::text && nodes_[id.items[4]].kind == Kind::integer;
  if (!whole || !find_storage(nodes_[id.items[1]].text))
    fail("the pickle refers to something that is no storage");
  push(Node{Kind::storage, 0, nodes_[id.items[2]].text, {id.items[1]}});
}

std::vector<int64_t> integers(const Machine& machine, Id id) {
  std::vector<int64_t> values;
  if (machine.node(id).kind != Kind::tuple || machine.node(id).items.size() > 64)
    machine.fail("a tensor's shape or strides are no tuple");
  for (Id item : machine.node(id).items) {
    if (machine.node(item).kind != Kind::integer || machine.node(item).integer < 0)
      machine.fail("a tensor's shape or strides are no numbers");
    values.push_back(machine.node(item).integer);
  }
  return values;
}

PickledTensor place_tensor(const Machine& machine, const std::string& name, const Node& node,
                           const std::map<std::string, ZipEntry>& entries,
                           const std::string& prefix) {
  auto fail = [&](const std::string& what) {
    machine.fail("tensor '" + printable(name) + "': " + what);
  };
  const Node& storage = machine.node(node.items[0]);
  const Node& offset = machine.node(node.items[1]);
  if (storage.kind != Kind::storage || offset.kind != Kind::integer || offset.integer < 0)
    fail("it has no storage");
  PickledTensor tensor;
  tensor.name = name;
  tensor.dtype = find_storage(machine.node(storage.items[0]).text)->dtype;
  tensor.shape = integers(machine, node.items[2]);
  tensor.strides = integers(machine, node.items[3]);
  if (tensor.shape.size() != tensor.strides.size())
    fail("it has " + std::to_string(tensor.shape.size()) + " dimensions and " +
         std::to_string(tensor.strides.size()) + " strides");
  auto entry = entries.find(prefix + "data/" + storage.text);
  if (entry == entries.end())
    fail("its storage '" + printable(storage.text) + "' is not in the file");
  // The last item's place, in overflow-safe steps.
  int64_t last = offset.integer;
  bool empty = false, overflow = false;
  for (size_t d = 0; d < tensor.shape.size(); ++d) {
    int64_t reach = 0;
    empty = empty || tensor.shape[d] == 0;
    overflow = overflow ||
               __builtin_mul_overflow(std::max<int64_t>(tensor.shape[d], 1) - 1, tensor.strides[d],
                                      &reach) ||
               __builtin_add_overflow(last, reach, &last);
  }
  uint64_t items = entry->second.size / item_size(tensor.dtype);
  if (overflow || (!empty && uint64_t(last) >= items) || uint64_t(offset.integer) > items)
    fail("it reaches beyond its storage");
  tensor.begin = entry->second.begin + uint64_t(offset.integer) * item_size(tensor.dtype);
  return tensor;
}

}  // namespace

std::vector<PickledTensor> read_pickle(std::string_view file, const std::string& source) {
  auto entries = read_zip(file, source);
  std::string prefix;
  const ZipEntry* code = nullptr;
  for (auto& [name, entry] : entries) {
    if (name != "data.pkl" && !name.ends_with("/data.pkl")) continue;
    if (code) throw FormatError(source + ": two entries called data.pkl");
    code = &entry;
    prefix = name.substr(0, name.size() - 8);
  }
  if (!code) throw FormatError(source + ": no data.pkl in the archive");
  if (auto order = entries.find(prefix + "byteorder");
      order != entries.end() && file.substr(order->second.begin, order->second.size) != "little")
    throw FormatError(source + ": written on a big-endian machine");
  Machine machine(file.substr(code->begin, code->size), source);
  const Node* dict = &machine.node(machine.run());
  for (size_t i = 0; dict->kind == Kind::dict && i < dict->items.size(); i += 2)
    if (machine.node(dict->items[i]).text == "state_dict" &&
        machine.node(dict->items[i + 1]).kind == Kind::dict) {
      dict = &machine.node(dict->items[i + 1]);
      break;
    }
  if (dict->kind != Kind::dict) throw FormatError(source + ": expected a dictionary of tensors");
  std::map<std::string, PickledTensor>
      tensors;  // a later entry of the same name replaces the earlier, as in Python
  for (size_t i = 0; i < dict->items.size(); i += 2) {
    const Node &key = machine.node(dict->items[i]), &value = machine.node(dict->items[i + 1]);
    if (key.kind != Kind::text || value.kind != Kind::tensor)
      throw FormatError(source + ": entry '" + printable(key.text) + "' is no tensor");
    tensors.insert_or_assign(key.text, place_tensor(machine, key.text, value, entries, prefix));
  }
  std::vector<PickledTensor> list;
  for (auto& [name, tensor] : tensors) list.push_back(std::move(tensor));
  return list;
}

PickleFile::PickleFile(const std::filesystem::path& path) {
  std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  map(open_inside(folder, path.filename().string()), path.string());
}

PickleFile::PickleFile(const FileDescriptor& file, const std::string& name) { map(file, name); }

void PickleFile::map(const FileDescriptor& file, const std::string& name) {
  uint64_t size = 0;
  mapping_ = map_file(file, name, size);
  tensors_ = read_pickle({mapping_.get(), size}, name);
}

}  // namespace pretrained::safetensors
