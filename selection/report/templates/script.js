(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  var dark = function () {
    var said = root.dataset.theme;
    return said ? said === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  var button = document.getElementById("theme");
  var name = function () { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", function () {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  name();

  // A chart's marks say their values as aria-labels; a pointer sees them too.
  var tip = document.getElementById("tip");
  document.addEventListener("pointerover", function (event) {
    var mark = event.target.closest && event.target.closest("svg [aria-roledescription]:not([aria-roledescription*=axis])");
    var text = mark && mark.getAttribute("aria-label");
    tip.hidden = !text;
    if (text) { tip.textContent = text; }
  });
  document.addEventListener("pointermove", function (event) {
    if (tip.hidden) { return; }
    tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 12) + "px";
  });

  var query = document.getElementById("query");
  if (!query) { return; }
  var set = document.getElementById("set"), kind = document.getElementById("kind"), found = document.getElementById("found");
  var cards = Array.prototype.slice.call(document.querySelectorAll(".ex"));
  var texts = cards.map(function (card) { return card.textContent.toLowerCase(); });
  var groups = Array.prototype.slice.call(document.querySelectorAll(".group"));
  var search = function () {
    var words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    var active = words.length || set.value || kind.value, shown = 0;
    cards.forEach(function (card, k) {
      var fits = (!set.value || card.dataset.set === set.value) && (!kind.value || card.dataset.kind === kind.value) &&
        words.every(function (word) { return texts[k].indexOf(word) >= 0; });
      card.hidden = !fits;
      shown += fits;
    });
    groups.forEach(function (group) {
      group.hidden = !group.querySelector(".ex:not([hidden])");
      var more = group.querySelector(".more");
      if (more) { more.open = Boolean(active); }
    });
    found.textContent = active ? shown + " of " + cards.length + " examples" : cards.length + " examples";
  };
  [query, set, kind].forEach(function (field) { field.addEventListener("input", search); });
  search();
})();
