#include "pretrained/safetensors/pickle.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <unordered_map>

#include "pretrained/base/error.h"
#include "pretrained/safetensors/zip.h"

namespace pretrained::safetensors {
namespace {

constexpr size_t kMaxNodes = 4'000'000, kMaxStack = 1'000'000, kMaxRank = 64, kMaxLine = 1000;
constexpr auto kOnly = ": only tensors and containers are read from old checkpoints";

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
constexpr Id kMark = 0;  // every mark on the stack is this one node
constexpr Id kNotStored = std::numeric_limits<Id>::max();

// Values live in one arena and refer to each other by place, so that hostile nesting and cycles
// cost no recursion.
struct Node {
  Kind kind = Kind::none;
  int64_t integer = 0;
  std::string_view
      text;  // string and storage key: bytes of the pickle; global: of kStorages or kGlobals
  std::vector<Id> items;  // of tuple and list; of dict: key, value, key, value; of storage: its
                          // class; of tensor: storage, offset, shape, strides
};

struct Storage {
  std::string_view name;
  Dtype dtype;
};
constexpr Storage kStorages[] = {
    {"torch.BoolStorage", Dtype::BOOL},        {"torch.ByteStorage", Dtype::U8},
    {"torch.CharStorage", Dtype::I8},          {"torch.ShortStorage", Dtype::I16},
    {"torch.HalfStorage", Dtype::F16},         {"torch.BFloat16Storage", Dtype::BF16},
    {"torch.IntStorage", Dtype::I32},          {"torch.FloatStorage", Dtype::F32},
    {"torch.ComplexFloatStorage", Dtype::C64}, {"torch.DoubleStorage", Dtype::F64},
    {"torch.LongStorage", Dtype::I64}};

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
// The dtypes are values that training scripts keep beside the weights; naming one calls nothing.
constexpr std::string_view kGlobals[] = {
    kOrderedDict,    kTensor,          kParameter,    "torch.float32",  "torch.float64",
    "torch.float16", "torch.bfloat16", "torch.int64", "torch.int32",    "torch.int16",
    "torch.int8",    "torch.uint8",    "torch.bool",  "torch.complex64"};

const Storage* find_storage(std::string_view name) {
  for (auto& storage : kStorages)
    if (name == storage.name) return &storage;
  return nullptr;
}

class Machine {
 public:
  Machine(std::string_view code, const std::string& source) : code_(code), source_(source) {
    add(Node{Kind::mark, 0, {}, {}});
  }

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
    for (size_t i = bytes.size(); i-- > 0;)
      value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
  }
  std::string line() {
    size_t end = code_.find('\n', at_);
    if (end == code_.npos) fail("the pickle is truncated");
    if (end - at_ > kMaxLine)
      fail("the pickle holds a name of " + std::to_string(end - at_) + " bytes");
    std::string text(code_.substr(at_, end - at_));
    at_ = end + 1;
    return text;
  }
  Id add(Node node) {
    if (nodes_.size() == kMaxNodes) fail("the pickle holds too many values");
    nodes_.push_back(std::move(node));
    return Id(nodes_.size() - 1);
  }
  void push_id(Id id) {
    if (stack_.size() == kMaxStack) fail("the pickle's stack is too deep");
    stack_.push_back(id);
  }
  void push(Kind kind, int64_t integer = 0, std::string_view text = {},
            std::vector<Id> items = {}) {
    push_id(add(Node{kind, integer, text, std::move(items)}));
  }
  Id top() {
    if (stack_.empty()) fail("the pickle takes from an empty stack");
    return stack_.back();
  }
  Id pop() {
    Id id = top();
    stack_.pop_back();
    return id;
  }
  std::vector<Id> pop_to_mark() {
    size_t place = stack_.size();
    while (place > 0 && stack_[place - 1] != kMark) --place;
    if (place == 0) fail("the pickle has no mark where it needs one");
    std::vector<Id> items(stack_.begin() + std::ptrdiff_t(place), stack_.end());
    stack_.resize(place - 1);
    return items;
  }
  void push_tuple(size_t count) {
    std::vector<Id> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push(Kind::tuple, 0, {}, std::move(items));
  }
  void extend(Id container, const std::vector<Id>& items, Kind kind) {
    Node& target = nodes_[container];
    if (target.kind != kind || (kind == Kind::dict && items.size() % 2))
      fail("the pickle adds to something that is no container");
    target.items.insert(target.items.end(), items.begin(), items.end());
    added_ += items.size();
    if (added_ > kMaxNodes) fail("the pickle holds too many values");
  }
  void set_memo(uint64_t place) {
    if (place >= kMaxNodes) fail("the pickle's memo is too large");
    if (place >= memo_.size()) memo_.resize(std::max(place + 1, memo_.size() * 2), kNotStored);
    memo_count_ += memo_[place] == kNotStored;
    memo_[place] = top();
  }
  void get_memo(uint64_t place) {
    if (place >= memo_.size() || memo_[place] == kNotStored)
      fail("the pickle asks for something it has not stored");
    push_id(memo_[place]);
  }

  [[noreturn]] void refuse_global(const std::string& name) {
    fail("refuses the global '" + printable(name) + "'" + kOnly);
  }
  [[noreturn]] void refuse_construction(const char* how) {
    std::string what;
    for (size_t i = stack_.size(); i-- > 0 && what.empty();)
      if (auto& node = nodes_[stack_[i]]; node.kind == Kind::global)
        what = " of '" + std::string(node.text) + "'";
    fail(std::string("refuses the instruction ") + how + what + kOnly);
  }
  void push_global(const std::string& name) {
    auto* known = std::find(std::begin(kGlobals), std::end(kGlobals), name);
    if (known != std::end(kGlobals)) return push(Kind::global, 0, *known);
    auto* storage = find_storage(name);
    if (!storage) refuse_global(name);
    push(Kind::global, 0, storage->name);
  }

  void step(unsigned char op);
  void step_numbers(unsigned char op);
  void step_containers(unsigned char op);
  void step_memo(unsigned char op);
  void step_construction(unsigned char op);
  void stack_global();
  void reduce();
  void build();
  void persistent_id();

  std::string_view code_;
  const std::string& source_;
  size_t at_ = 0, added_ = 0, memo_count_ = 0;
  std::vector<Node> nodes_;
  std::vector<Id> stack_, memo_;
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
      push(Kind::none);
      break;
    case 'X':  // BINUNICODE
    case 'T':
      push(Kind::text, 0, take(number(4)));
      break;
    case 0x8c:  // SHORT_BINUNICODE
    case 'U':
      push(Kind::text, 0, take(number(1)));
      break;
    case 'Q':
      persistent_id();
      break;
    default:
      step_numbers(op);
  }
}

void Machine::step_numbers(unsigned char op) {
  switch (op) {
    case 0x88:  // NEWTRUE
    case 0x89:
      push(Kind::boolean, op == 0x88);
      break;
    case 'J':
      push(Kind::integer, int32_t(number(4)));
      break;
    case 'K':
      push(Kind::integer, int64_t(number(1)));
      break;
    case 'M':
      push(Kind::integer, int64_t(number(2)));
      break;
    case 'G':
      take(8);
      push(Kind::real);
      break;
    case 0x8a: {  // LONG1: two's complement, little-endian
      auto bytes = take(number(1));
      if (bytes.size() > 8) fail("the pickle holds an integer beyond 64 bits");
      uint64_t value = !bytes.empty() && (bytes.back() & 0x80) ? ~uint64_t(0) : 0;
      for (size_t i = bytes.size(); i-- > 0;)
        value = value << 8 | static_cast<unsigned char>(bytes[i]);
      push(Kind::integer, int64_t(value));
      break;
    }
    default:
      step_containers(op);
  }
}

void Machine::step_containers(unsigned char op) {
  switch (op) {
    case '(':
      push_id(kMark);
      break;
    case '0':
      pop();
      break;
    case '}':
      push(Kind::dict);
      break;
    case ']':
      push(Kind::list);
      break;
    case ')':
    case 0x85:
    case 0x86:
    case 0x87:
      push_tuple(op == ')' ? 0 : op - 0x84u);
      break;
    case 't':
      push(Kind::tuple, 0, {}, pop_to_mark());
      break;
    case 'a': {
      Id item = pop();
      extend(top(), {item}, Kind::list);
      break;
    }
    case 's': {
      Id value = pop(), key = pop();
      extend(top(), {key, value}, Kind::dict);
      break;
    }
    case 'e':  // APPENDS
    case 'u': {
      auto items = pop_to_mark();
      extend(top(), items, op == 'e' ? Kind::list : Kind::dict);
      break;
    }
    default:
      step_memo(op);
  }
}

void Machine::step_memo(unsigned char op) {
  switch (op) {
    case 'q':
      set_memo(number(1));
      break;
    case 'r':
      set_memo(number(4));
      break;
    case 0x94:
      set_memo(memo_count_);
      break;  // MEMOIZE
    case 'h':
      get_memo(number(1));
      break;
    case 'j':
      get_memo(number(4));
      break;
    default:
      step_construction(op);
  }
}

void Machine::step_construction(unsigned char op) {
  switch (op) {
    case 'c': {  // GLOBAL
      std::string module = line();
      return push_global(module + "." + line());
    }
    case 'i': {  // INST
      std::string module = line();
      refuse_global(module + "." + line());
    }
    case 0x93:
      return stack_global();
    case 'R':
      return reduce();
    case 'b':
      return build();
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
    default: {
      char hex[8];
      std::snprintf(hex, sizeof hex, "0x%02x", op);
      fail(std::string("refuses the pickle instruction ") + hex);
    }
  }
}

void Machine::stack_global() {
  const Node &name = nodes_[pop()], &module = nodes_[pop()];
  if (name.kind != Kind::text || module.kind != Kind::text)
    fail("the pickle names a global with something that is no string");
  if (name.text.size() + module.text.size() > kMaxLine)
    fail("the pickle holds a name of " + std::to_string(name.text.size()) + " bytes");
  push_global(std::string(module.text) + "." + std::string(name.text));
}

// `push` may move the nodes: the references below are not used after it.
void Machine::reduce() {
  const Node &arguments = nodes_[pop()], &callee = nodes_[pop()];
  if (callee.kind != Kind::global || arguments.kind != Kind::tuple)
    fail("the pickle calls something that is no function");
  if (callee.text == kOrderedDict) {
    if (!arguments.items.empty())
      fail("OrderedDict with arguments is not read from old checkpoints");
    push(Kind::dict);
  } else if (callee.text == kParameter) {
    if (arguments.items.empty()) fail("_rebuild_parameter without a tensor");
    push_id(arguments.items[0]);
  } else if (callee.text == kTensor) {
    if (arguments.items.size() < 4) fail("_rebuild_tensor_v2 with too few arguments");
    std::vector<Id> items(arguments.items.begin(), arguments.items.begin() + 4);
    push(Kind::tensor, 0, {}, std::move(items));
  } else {
    fail("refuses to call '" + std::string(callee.text) + "'");
  }
}

// Attributes of a container (an OrderedDict's _metadata) are of no use here; setting them on
// anything else is refused.
void Machine::build() {
  pop();
  if (nodes_[top()].kind != Kind::dict) refuse_construction("BUILD");
}

void Machine::persistent_id() {
  const Node& id = nodes_[pop()];
  auto item = [&](size_t i) -> const Node& { return nodes_[id.items[i]]; };
  if (id.kind != Kind::tuple || id.items.size() < 5 || item(0).text != "storage" ||
      item(1).kind != Kind::global || !find_storage(item(1).text) || item(2).kind != Kind::text ||
      item(4).kind != Kind::integer)
    fail("the pickle refers to something that is no storage");
  push(Kind::storage, 0, item(2).text, {id.items[1]});
}

// Places the tensors that the machine described, within the archive's entries.
class Placer {
 public:
  Placer(const Machine& machine, const std::map<std::string, ZipEntry>& entries, std::string prefix)
      : machine_(machine), entries_(entries), prefix_(std::move(prefix)) {}

  PickledTensor place(const Node& name, const Node& node) {
    name_ = std::string(name.text);
    auto &storage = machine_.node(node.items[0]), &offset = machine_.node(node.items[1]);
    if (storage.kind != Kind::storage || offset.kind != Kind::integer || offset.integer < 0)
      fail("it has no storage");
    PickledTensor tensor;
    tensor.name = name_;
    tensor.dtype = find_storage(machine_.node(storage.items[0]).text)->dtype;
    tensor.shape = integers(node.items[2]);
    tensor.strides = integers(node.items[3]);
    if (tensor.shape.size() != tensor.strides.size())
      fail("it has " + std::to_string(tensor.shape.size()) + " dimensions and " +
           std::to_string(tensor.strides.size()) + " strides");
    auto entry = entries_.find(prefix_ + "data/" + std::string(storage.text));
    if (entry == entries_.end())
      fail("its storage '" + printable(std::string(storage.text)) + "' is not in the file");
    check_reach(tensor, offset.integer, entry->second.size / item_size(tensor.dtype));
    tensor.begin = entry->second.begin + uint64_t(offset.integer) * item_size(tensor.dtype);
    return tensor;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    machine_.fail("tensor '" + printable(name_) + "': " + what);
  }

  std::vector<int64_t> integers(Id id) const {
    auto& tuple = machine_.node(id);
    if (tuple.kind != Kind::tuple || tuple.items.size() > kMaxRank)
      fail("its shape or strides are no tuple of at most " + std::to_string(kMaxRank));
    std::vector<int64_t> values;
    for (Id item : tuple.items) {
      auto& value = machine_.node(item);
      if (value.kind != Kind::integer || value.integer < 0)
        fail("its shape or strides are no numbers from 0");
      values.push_back(value.integer);
    }
    return values;
  }

  // Every item must lie in the storage. A stride of 0 lets a shape be larger than it, up to what 64
  // bits can count.
  void check_reach(const PickledTensor& tensor, int64_t offset, uint64_t items) const {
    int64_t last = offset, bytes = int64_t(item_size(tensor.dtype));
    bool empty = false, overflow = false;
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      int64_t reach = 0, size = std::max<int64_t>(tensor.shape[d], 1);
      empty = empty || tensor.shape[d] == 0;
      overflow = overflow || __builtin_mul_overflow(bytes, size, &bytes) ||
                 __builtin_mul_overflow(size - 1, tensor.strides[d], &reach) ||
                 __builtin_add_overflow(last, reach, &last);
    }
    if (overflow || (!empty && uint64_t(last) >= items) || uint64_t(offset) > items)
      fail("it reaches beyond its storage");
  }

  const Machine& machine_;
  const std::map<std::string, ZipEntry>& entries_;
  std::string prefix_, name_;
};

const Node& find_state_dict(const Machine& machine, Id root, const std::string& source) {
  auto& dict = machine.node(root);
  if (dict.kind != Kind::dict) throw FormatError(source + ": expected a dictionary of tensors");
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    auto &key = machine.node(dict.items[i]), &value = machine.node(dict.items[i + 1]);
    if (key.kind == Kind::text && key.text == "state_dict" && value.kind == Kind::dict)
      return value;
  }
  return dict;
}

// The folder in the archive that holds data.pkl, "" or with its slash.
std::string find_prefix(std::string_view file, const std::map<std::string, ZipEntry>& entries,
                        const std::string& source) {
  constexpr std::string_view kCode = "data.pkl";
  std::string prefix;
  bool found = false;
  for (auto& [name, entry] : entries) {
    if (name != kCode && !name.ends_with("/data.pkl")) continue;
    if (found) throw FormatError(source + ": two entries called data.pkl");
    prefix = name.substr(0, name.size() - kCode.size());
    found = true;
  }
  if (!found) throw FormatError(source + ": no data.pkl in the archive");
  auto order = entries.find(prefix + "byteorder");
  if (order != entries.end() && file.substr(order->second.begin, order->second.size) != "little")
    throw FormatError(source + ": written on a big-endian machine");
  return prefix;
}

}  // namespace

std::vector<PickledTensor> read_pickle(std::string_view file, const std::string& source) {
  auto entries = read_zip(file, source);
  std::string prefix = find_prefix(file, entries, source);
  const ZipEntry& code = entries.at(prefix + "data.pkl");
  Machine machine(file.substr(code.begin, code.size), source);
  const Node& dict = find_state_dict(machine, machine.run(), source);
  Placer placer(machine, entries, prefix);
  std::vector<PickledTensor> tensors;
  std::unordered_map<std::string_view, size_t> places;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    auto &key = machine.node(dict.items[i]), &value = machine.node(dict.items[i + 1]);
    if (key.kind != Kind::text || value.kind != Kind::tensor)
      throw FormatError(source + ": entry '" + printable(std::string(key.text)) + "' is no tensor");
    auto [place, fresh] = places.emplace(key.text, tensors.size());
    if (fresh) tensors.emplace_back();
    // A later entry of the same name replaces the earlier, in its place, as in Python.
    tensors[place->second] = placer.place(key, value);
  }
  return tensors;
}

PickleFile::PickleFile(const std::filesystem::path& path) { map(open_to_map(path), path.string()); }

PickleFile::PickleFile(const FileDescriptor& file, const std::string& name) { map(file, name); }

void PickleFile::map(const FileDescriptor& file, const std::string& name) {
  uint64_t size = 0;
  mapping_ = map_file(file, name, size);
  tensors_ = read_pickle({mapping_.get(), size}, name);
}

}  // namespace pretrained::safetensors
