// libp2p 3.3 calls Promise.withResolvers, which Node has from 22 on. Nothing else keeps it from Node 20.
Promise.withResolvers ??= function () {
  const deferred = {}
  deferred.promise = new this((resolve, reject) => Object.assign(deferred, { resolve, reject }))
  return deferred
}
