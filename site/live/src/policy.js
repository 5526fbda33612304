// The page may fetch from its own folder and nowhere else. index.html says so of its server; where the folder lies is
// known only here. In a single file nothing may be fetched at all, which its own policy says.
if (!document.querySelector("html[data-single]")) {
  const meta = document.createElement("meta");
  meta.httpEquiv = "Content-Security-Policy";
  meta.content = `connect-src ${new URL(".", location.href).href}`;
  document.head.append(meta);
}
